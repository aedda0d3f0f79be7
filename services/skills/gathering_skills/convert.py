"""Proto to model and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from gathering.skills.v1 import (
    execution_pb2,
    execution_service_pb2,
    skill_pb2,
    skill_service_pb2,
    workspace_service_pb2,
)
from gathering_skills.errors import ArgumentsInvalid, FieldInvalid
from gathering_skills.models import (
    APPROVAL_TIMEOUT,
    Approval,
    Execution,
    ExecutionFilter,
    ExecutionState,
    Grant,
    GrantWish,
    Json,
    JsonObject,
    Order,
    WorkspaceRecord,
)
from gathering_skills.models_tools import EffectClass, Permission, SkillSpec, ToolSpec

DEFAULT_WAIT = 30.0
_EXACT = 2**53  # beyond, not every whole number is a double


def order_of(request: execution_service_pb2.ExecuteRequest) -> Order:
    """Return what a request wants to have run; ArgumentsInvalid for numbers that JSON has not."""
    try:
        arguments = unstruct(request.arguments)
    except ValueError as error:
        raise ArgumentsInvalid(request.tool, {"arguments": str(error)}) from error
    return Order(
        tool=request.tool,
        arguments=arguments,
        agent_id=request.agent_id,
        workspace_id=request.workspace_id,
        turn_id=request.turn_id,
        task_id=request.task_id,
    )


def wait_of(request: execution_service_pb2.ExecuteRequest) -> float:
    """Return how many seconds a request waits."""
    if not request.HasField("wait"):
        return DEFAULT_WAIT
    return request.wait.seconds + request.wait.nanos / 1e9


def filter_of(request: execution_service_pb2.ListExecutionsRequest) -> ExecutionFilter:
    """Return which executions a request lists."""
    return ExecutionFilter(
        turn_id=request.turn_id,
        task_id=request.task_id,
        agent_id=request.agent_id,
        workspace_id=request.workspace_id,
        state=_state(request.state),
    )


def execution_message(execution: Execution) -> execution_pb2.Execution:
    """Return an execution as callers see it."""
    order = execution.order
    message = execution_pb2.Execution(
        execution_id=execution.id,
        request_id=execution.request_id,
        tool=order.tool,
        arguments=struct(order.arguments),
        agent_id=order.agent_id,
        workspace_id=order.workspace_id,
        turn_id=order.turn_id,
        task_id=order.task_id,
        state=execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{execution.state.name}"),
        error_reason=execution.error_reason,
        error_message=execution.error_message,
        artifacts=[
            execution_pb2.Artifact(path=a.path, sha256=a.sha256, size_bytes=a.size_bytes)
            for a in execution.artifacts
        ],
        attempt_count=execution.attempt_count,
        create_time=timestamp(execution.created_at),
    )
    if execution.output is not None:
        message.output.CopyFrom(struct(execution.output))
    if execution.started_at:
        message.start_time.CopyFrom(timestamp(execution.started_at))
    if execution.ended_at:
        message.end_time.CopyFrom(timestamp(execution.ended_at))
    if execution.approval:
        message.approval.CopyFrom(approval_message(execution.approval))
    return message


def approval_message(asked: Approval) -> execution_pb2.Approval:
    """Return what a person is asked."""
    message = execution_pb2.Approval(
        digest=asked.digest,
        expire_time=timestamp(asked.expires_at),
        decided_by_user_id=asked.user_id,
        comment=asked.comment,
    )
    if asked.decided_at:
        message.decide_time.CopyFrom(timestamp(asked.decided_at))
    return message


def skill_message(skill: SkillSpec) -> skill_pb2.Skill:
    """Return a skill with its tools."""
    tools = [tool_message(skill.name, tool) for tool in skill.tools]
    return skill_pb2.Skill(name=skill.name, description=skill.description, tools=tools)


def tool_message(skill: str, tool: ToolSpec) -> skill_pb2.Tool:
    """Return a tool."""
    return skill_pb2.Tool(
        name=tool.name,
        skill=skill,
        description=tool.description,
        arguments_schema=struct(tool.arguments_schema),
        result_schema=struct(tool.result_schema),
        permission=_permission_value(tool.permission),
        effect=_effect_value(tool.effect),
        needs_workspace=tool.needs_workspace,
        timeout_seconds=math.ceil(tool.timeout),
        tells_output=tool.tells,
    )


def wish_of(request: skill_service_pb2.CreateGrantRequest) -> GrantWish:
    """Return the grant that a request wants; FieldInvalid for a permission that is none."""
    return GrantWish(
        agent_id=request.agent_id,
        skill=request.skill,
        permissions=_permissions("permissions", request.permissions),
        write_paths=tuple(request.write_paths),
        ask_permissions=_permissions("ask_permissions", request.ask_permissions),
        approval_timeout=(
            request.approval_timeout.ToTimedelta()
            if request.HasField("approval_timeout")
            else APPROVAL_TIMEOUT
        ),
    )


def grant_message(grant: Grant) -> skill_pb2.Grant:
    """Return a grant."""
    message = skill_pb2.Grant(
        grant_id=grant.id,
        agent_id=grant.agent_id,
        skill=grant.skill,
        permissions=sorted(map(_permission_value, grant.permissions)),
        write_paths=grant.write_paths,
        create_time=timestamp(grant.created_at),
        ask_permissions=sorted(map(_permission_value, grant.ask_permissions)),
        approval_timeout=_duration(grant.approval_timeout),
    )
    if grant.revoked_at:
        message.revoke_time.CopyFrom(timestamp(grant.revoked_at))
    return message


def workspace_message(record: WorkspaceRecord) -> workspace_service_pb2.Workspace:
    """Return a workspace."""
    return workspace_service_pb2.Workspace(
        workspace_id=record.id,
        display_name=record.display_name,
        path=record.path,
        create_time=timestamp(record.created_at),
    )


def timestamp(time: datetime) -> Timestamp:
    """Return a time."""
    message = Timestamp()
    message.FromDatetime(time.astimezone(UTC))
    return message


def struct(values: Mapping[str, Any]) -> Struct:
    """Return a JSON object as protobuf has it, where all numbers are doubles."""
    message = Struct()
    message.update(values)
    return message


def unstruct(message: Struct) -> JsonObject:
    """Return the JSON object; whole numbers are integers. ValueError for NaN and infinities."""
    return {name: _plain(value) for name, value in message.fields.items()}


def _plain(value: Value) -> Json:
    match value.WhichOneof("kind"):
        case "struct_value":
            return unstruct(value.struct_value)
        case "list_value":
            return _plain_list(value.list_value)
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _plain_list(value: ListValue) -> Sequence[Json]:
    return [_plain(item) for item in value.values]


def _number(value: float) -> int | float:
    if not math.isfinite(value):
        raise ValueError("holds a number that JSON has not (NaN or infinite)")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _state(value: int) -> str:
    """Return a state by which a list is filtered, empty for none."""
    if value == execution_pb2.EXECUTION_STATE_UNSPECIFIED:
        return ""
    name = execution_pb2.ExecutionState.Name(execution_pb2.ExecutionState.ValueType(value))
    return ExecutionState[name.removeprefix("EXECUTION_STATE_")].value


def _duration(span: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(span)
    return message


def _permissions(field: str, values: Sequence[int]) -> frozenset[Permission]:
    return frozenset(_permission(f"{field}[{n}]", value) for n, value in enumerate(values))


def _permission(field: str, value: int) -> Permission:
    known = skill_pb2.Permission.values()
    if value not in known or value == skill_pb2.PERMISSION_UNSPECIFIED:
        raise FieldInvalid(field, "is no permission")
    name = skill_pb2.Permission.Name(skill_pb2.Permission.ValueType(value))
    return Permission[name.removeprefix("PERMISSION_")]


def _permission_value(permission: Permission) -> skill_pb2.Permission.ValueType:
    return skill_pb2.Permission.Value(f"PERMISSION_{permission.name}")


def _effect_value(effect: EffectClass) -> skill_pb2.EffectClass.ValueType:
    return skill_pb2.EffectClass.Value(f"EFFECT_CLASS_{effect.name}")
