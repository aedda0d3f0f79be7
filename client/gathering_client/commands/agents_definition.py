"""What is said of an agent on the command line, and its definition as people read it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import ParseDict, ParseError

from gathering.agent.v1 import agent_pb2
from gathering_client.choices import chosen
from gathering_client.output import fail, read_json, visible

_UPDATABLE = (
    "name", "persona", "competences", "model", "fallback_models", "max_concurrent_tasks",
    "max_turn_steps", "max_turn_tool_calls", "memory_policy", "context_policy",
)  # fmt: skip
_LISTS = ("traits", "languages", "specialisations", "preferences")

Role = Annotated[str | None, typer.Option(help="In a word or two.")]
Prompt = Annotated[str | None, typer.Option(help="What the model is told first; @FILE reads it.")]
Trait = Annotated[list[str] | None, typer.Option(help="Such as careful; repeatable; '': none.")]
Style = Annotated[
    str | None, typer.Option(help="balanced, concise, detailed, technical, friendly or formal.")
]
Language = Annotated[list[str] | None, typer.Option(help="A BCP 47 tag; repeatable, best first.")]
Specialisation = Annotated[list[str] | None, typer.Option(help="What it knows best; repeatable.")]
Preference = Annotated[list[str] | None, typer.Option(help="How it likes to work; repeatable.")]
Competence = Annotated[
    list[str] | None, typer.Option(help="NAME or NAME=STRENGTH, 0 to 1; repeatable.")
]
Model = Annotated[str | None, typer.Option(help="Of the catalogue; default: the server's.")]
Fallback = Annotated[
    list[str] | None, typer.Option(help="A model to ask where the first fails; repeatable.")
]
MaxTasks = Annotated[int | None, typer.Option(min=0, help="Tasks at a time.")]
MaxSteps = Annotated[int | None, typer.Option(min=0, help="Model calls in a turn.")]
MaxToolCalls = Annotated[int | None, typer.Option(min=0, help="Tool calls in a turn.")]
Recall = Annotated[int | None, typer.Option(min=0, help="Memories recalled for a turn.")]
ReadOnly = Annotated[
    bool | None, typer.Option("--read-only/--writes", help="Whether it stores no memories.")
]
Remember = Annotated[
    str | None, typer.Option(help="What it remembers by itself: off, rules or model.")
]
Threshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="From which importance on it does.")
]
RememberLimit = Annotated[int | None, typer.Option(min=0, help="The most of one turn.")]
CondensingModel = Annotated[
    str | None, typer.Option(help="Who condenses long conversations; '': rules, no model.")
]
File = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="A definition as JSON; options replace its own."
    ),
]


@dataclass
class Said:
    """What options say of an agent: values by the names of fields; None: nothing is said."""

    plain: dict[str, Any] = field(default_factory=dict)
    persona: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    condensing_model: str | None = None
    competences: list[str] | None = None
    fallbacks: list[str] | None = None
    file: Path | None = None

    def onto(self, agent: agent_pb2.Agent) -> list[str]:
        """Write what is said onto a definition; return the fields for the mask of an update."""
        changed = [*self._from_file(agent), *self._plain(agent)]
        if any(value is not None for value in self.persona.values()):
            _onto_persona(agent.persona, self.persona)
            changed.append("persona")
        if self.competences is not None:
            del agent.competences[:]
            agent.competences.extend(parse_competence(text) for text in self.competences if text)
            changed.append("competences")
        if self.fallbacks is not None:
            agent.fallback_models[:] = [model for model in self.fallbacks if model]
            changed.append("fallback_models")
        if any(value is not None for value in self.memory.values()):
            _onto_policy(agent.memory_policy, self.memory)
            changed.append("memory_policy")
        if self.condensing_model is not None:
            agent.context_policy.condensing_model = self.condensing_model
            changed.append("context_policy")
        return list(dict.fromkeys(changed))

    def _plain(self, agent: agent_pb2.Agent) -> Iterator[str]:
        for name, value in self.plain.items():
            if value is not None:
                setattr(agent, name, value)
                yield name

    def _from_file(self, agent: agent_pb2.Agent) -> list[str]:
        if self.file is None:
            return []
        told = read_json(self.file)
        try:
            given = ParseDict(told.get("definition", told), agent_pb2.Agent())  # of a version
        except (ParseError, AttributeError) as error:
            fail(f"{self.file} is no agent: {error}")
        named = [name for name in _UPDATABLE if _is_given(given, name)]
        FieldMask(paths=named).MergeMessage(given, agent, True, True)  # in place of what was there
        return named


_PERSONA = {
    "role": "role", "prompt": "base_prompt", "trait": "traits", "style": "communication_style",
    "language": "languages", "specialisation": "specialisations", "preference": "preferences",
}  # fmt: skip
_OF_AGENT = {
    "name": "name", "model": "model", "max_tasks": "max_concurrent_tasks",
    "max_steps": "max_turn_steps", "max_tool_calls": "max_turn_tool_calls",
}  # fmt: skip
_MEMORY = {
    "recall": "recall_limit", "read_only": "read_only", "remember": "remember_mode",
    "remember_threshold": "remember_threshold", "remember_limit": "remember_limit",
}  # fmt: skip


def said(options: Mapping[str, Any]) -> Said:
    """Return what a command's options say, by their names there."""
    options = {**options, "name": options["name"] or None}
    return Said(
        {field: options[option] for option, field in _OF_AGENT.items()},
        {field: options[option] for option, field in _PERSONA.items()},
        {field: options[option] for option, field in _MEMORY.items()},
        options["condensing_model"],
        options["competence"],
        options["fallback"],
        options["file"],
    )


def _is_given(agent: agent_pb2.Agent, name: str) -> bool:
    return name in {field.name for field, _ in agent.ListFields()}


def _onto_persona(persona: agent_pb2.Persona, said: dict[str, Any]) -> None:
    for name, value in said.items():
        if value is None:
            continue
        if name in _LISTS:
            getattr(persona, name)[:] = [each for each in value if each]
        elif name == "communication_style":
            persona.communication_style = agent_pb2.CommunicationStyle.Value(
                chosen(agent_pb2.CommunicationStyle.keys(), "COMMUNICATION_STYLE", value)
            )
        elif name == "base_prompt" and value.startswith("@"):
            persona.base_prompt = _text_of(Path(value[1:]))
        else:
            setattr(persona, name, value)


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None


def _onto_policy(policy: agent_pb2.MemoryPolicy, said: dict[str, Any]) -> None:
    for name, value in said.items():
        if value is None:
            continue
        if name == "remember_mode":
            policy.remember_mode = agent_pb2.RememberMode.Value(
                chosen(agent_pb2.RememberMode.keys(), "REMEMBER_MODE", value)
            )
        else:
            setattr(policy, name, value)


def parse_competence(text: str) -> agent_pb2.Competence:
    """Read NAME or NAME=STRENGTH."""
    name, given, strength = text.partition("=")
    try:
        return agent_pb2.Competence(name=name, strength=float(strength) if given else 0.8)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not NAME or NAME=STRENGTH") from None


def definition_rows(agent: agent_pb2.Agent) -> list[tuple[str, str]]:
    """Return who an agent is, for people; what is not said is left out."""
    persona = agent.persona
    style = agent_pb2.CommunicationStyle.Name(persona.communication_style)
    told = [
        ("name", agent.name),
        ("role", persona.role),
        ("prompt", persona.base_prompt),
        ("traits", ", ".join(persona.traits)),
        ("style", style.removeprefix("COMMUNICATION_STYLE_").lower()),
        ("languages", ", ".join(persona.languages)),
        ("knows best", ", ".join(persona.specialisations)),
        ("prefers", "; ".join(persona.preferences)),
        ("competences", ", ".join(f"{c.name} {c.strength:.2g}" for c in agent.competences)),
        ("model", " → ".join([agent.model or "the server's default", *agent.fallback_models])),
        ("limits", _limits(agent)),
        ("memory", _policy(agent.memory_policy)),
        ("condenses", agent.context_policy.condensing_model),
        ("template", agent.template),
    ]
    return [(name, visible(value)) for name, value in told if value]


def _limits(agent: agent_pb2.Agent) -> str:
    named = (
        (agent.max_concurrent_tasks, "tasks at a time"),
        (agent.max_turn_steps, "model calls in a turn"),
        (agent.max_turn_tool_calls, "tool calls in a turn"),
    )
    return ", ".join(f"{value} {what}" for value, what in named if value)


def _policy(policy: agent_pb2.MemoryPolicy) -> str:
    mode = agent_pb2.RememberMode.Name(policy.remember_mode).removeprefix("REMEMBER_MODE_").lower()
    told = ["stores nothing"] if policy.read_only else []
    if policy.HasField("recall_limit"):
        told.append(f"recalls {policy.recall_limit}")
    if policy.remember_mode:
        told.append(f"remembers by itself: {mode}")
    if policy.HasField("remember_threshold"):
        told.append(f"from {policy.remember_threshold:.2g}")
    if policy.HasField("remember_limit"):
        told.append(f"at most {policy.remember_limit} of a turn")
    return ", ".join(told)
