"""Proto to model and back; pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from gathering.agent.v1 import agent_pb2, session_pb2
from gathering_agent.agents.models import (
    DEFAULT_STRENGTH,
    Agent,
    AgentFields,
    AgentState,
    AgentTemplate,
    AgentVersion,
    Competence,
    ContextPolicy,
    MemoryPolicy,
    Persona,
    RememberMode,
    Style,
)
from gathering_agent.models import JsonObject, JsonValue, Message, Role
from gathering_agent.sessions.models_images import Image

_STYLES: dict[Style, agent_pb2.CommunicationStyle.ValueType] = {
    style: agent_pb2.CommunicationStyle.Value(f"COMMUNICATION_STYLE_{style.name}")
    for style in Style
}
_MODES: dict[RememberMode, agent_pb2.RememberMode.ValueType] = {
    mode: agent_pb2.RememberMode.Value(f"REMEMBER_MODE_{mode.name}") for mode in RememberMode
}
_STATES: dict[AgentState, agent_pb2.AgentState.ValueType] = {
    state: agent_pb2.AgentState.Value(f"AGENT_STATE_{state.name}") for state in AgentState
}
ROLES: dict[Role, session_pb2.MessageRole.ValueType] = {
    role: session_pb2.MessageRole.Value(f"MESSAGE_ROLE_{role.name}") for role in Role
}
_LARGEST_INTEGER = 2**53


def timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """Return a moment as protobuf has it; None stays absent."""
    if moment is None:
        return None
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def struct(value: JsonObject | None) -> struct_pb2.Struct | None:
    """Return a JSON object as protobuf has it; None stays absent."""
    if value is None:
        return None
    return json_format.ParseDict(value, struct_pb2.Struct(), max_recursion_depth=64)


def unstruct(value: struct_pb2.Struct) -> JsonObject:
    """Return protobuf's JSON object; whole numbers, which it keeps as floats, are integers.

    By name: protobuf keeps no order, each process has another one, and a model is shown it.
    """
    return {key: _json(value.fields[key]) for key in sorted(value.fields)}


def _json(value: struct_pb2.Value) -> JsonValue:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return unstruct(value.struct_value)
    if kind == "list_value":
        return [_json(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        whole = number.is_integer() and abs(number) <= _LARGEST_INTEGER
        return int(number) if whole else number
    return cast(JsonValue, getattr(value, kind)) if kind and kind != "null_value" else None


def fields_of(agent: agent_pb2.Agent) -> AgentFields:
    """Return what a user says of an agent; what the server sets is left out."""
    persona = agent.persona
    styles = {value: style for style, value in _STYLES.items()}
    return AgentFields(
        name=agent.name,
        persona=Persona(
            role=persona.role,
            base_prompt=persona.base_prompt,
            traits=tuple(persona.traits),
            style=styles.get(persona.communication_style, Style.BALANCED),
            languages=tuple(persona.languages),
            specialisations=tuple(persona.specialisations),
            preferences=tuple(persona.preferences),
        ),
        competences=tuple(
            Competence(c.name, c.strength if c.HasField("strength") else DEFAULT_STRENGTH)
            for c in agent.competences
        ),
        model=agent.model,
        max_concurrent_tasks=agent.max_concurrent_tasks,
        max_turn_steps=agent.max_turn_steps,
        max_turn_tool_calls=agent.max_turn_tool_calls,
        memory_policy=_policy_of(agent.memory_policy),
        fallback_models=tuple(agent.fallback_models),
        context_policy=ContextPolicy(agent.context_policy.condensing_model),
    )


def _policy_of(policy: agent_pb2.MemoryPolicy) -> MemoryPolicy:
    modes = {value: mode for mode, value in _MODES.items()}

    def given(field: str) -> Any:
        return getattr(policy, field) if policy.HasField(field) else None  # type: ignore[arg-type]

    return MemoryPolicy(
        given("recall_limit"),
        policy.read_only,
        modes.get(policy.remember_mode),
        given("remember_threshold"),
        given("remember_limit"),
    )


def agent_message(agent: Agent, etag: str) -> agent_pb2.Agent:
    """Return an agent as the contract has it."""
    message = definition_message(agent.fields)
    message.MergeFrom(
        agent_pb2.Agent(
            agent_id=agent.id,
            state=_STATES[agent.state],
            etag=etag,
            owner_user_id=agent.owner_user_id,
            create_time=timestamp(agent.create_time),
            update_time=timestamp(agent.update_time),
            template=agent.template,
            version=agent.definition,
        )
    )
    return message


def version_message(version: AgentVersion) -> agent_pb2.AgentVersion:
    """Return a version of an agent's definition as the contract has it."""
    return agent_pb2.AgentVersion(
        agent_id=version.agent_id,
        version=version.version,
        user_id=version.user_id,
        create_time=timestamp(version.create_time),
        changed_fields=version.changed_fields,
        definition=None if version.fields is None else definition_message(version.fields),
    )


def template_message(template: AgentTemplate) -> agent_pb2.AgentTemplate:
    """Return a template as the contract has it."""
    return agent_pb2.AgentTemplate(
        template=template.name,
        summary=template.summary,
        definition=definition_message(template.fields),
        suggested_skills=template.skills,
    )


def definition_message(fields: AgentFields) -> agent_pb2.Agent:
    """Return what a user says of an agent."""
    persona, memory = fields.persona, fields.memory_policy
    return agent_pb2.Agent(
        name=fields.name,
        persona=agent_pb2.Persona(
            role=persona.role,
            base_prompt=persona.base_prompt,
            traits=persona.traits,
            communication_style=_STYLES[persona.style],
            languages=persona.languages,
            specialisations=persona.specialisations,
            preferences=persona.preferences,
        ),
        competences=[
            agent_pb2.Competence(name=c.name, strength=c.strength) for c in fields.competences
        ],
        model=fields.model,
        max_concurrent_tasks=fields.max_concurrent_tasks,
        max_turn_steps=fields.max_turn_steps,
        max_turn_tool_calls=fields.max_turn_tool_calls,
        memory_policy=agent_pb2.MemoryPolicy(
            recall_limit=memory.recall_limit,
            read_only=memory.read_only,
            remember_mode=(
                agent_pb2.REMEMBER_MODE_UNSPECIFIED
                if memory.remember_mode is None
                else _MODES[memory.remember_mode]
            ),
            remember_threshold=memory.remember_threshold,
            remember_limit=memory.remember_limit,
        ),
        fallback_models=fields.fallback_models,
        context_policy=agent_pb2.ContextPolicy(
            condensing_model=fields.context_policy.condensing_model
        ),
    )


def image_message(image: Image, data: bytes = b"") -> session_pb2.Image:
    """Return a picture as the contract has it."""
    return session_pb2.Image(
        media_type=image.media_type,
        width_pixels=image.width,
        height_pixels=image.height,
        size_bytes=image.size,
        data=data,
    )


def message_message(message: Message) -> session_pb2.Message:
    """Return a message as the contract has it."""
    return session_pb2.Message(
        message_id=message.id,
        session_id=message.session_id,
        turn_id=message.turn_id,
        step=message.step,
        sequence=message.sequence,
        role=ROLES[message.role],
        text=message.text,
        tool_calls=[
            session_pb2.ToolCall(
                call_id=call.call_id, tool=call.tool, arguments=struct(call.arguments)
            )
            for call in message.tool_calls
        ],
        tool_results=[
            session_pb2.ToolResult(
                call_id=result.call_id,
                tool=result.tool,
                text=result.text,
                failed=result.failed,
                execution_id=result.execution_id,
            )
            for result in message.tool_results
        ],
        images=map(image_message, message.images),
        create_time=timestamp(message.create_time),
    )
