"""Proto to model and back, for turns and their streams; pure."""

from __future__ import annotations

from datetime import timedelta

from gathering.agent.v1 import model_attempt_pb2, turn_pb2
from gathering_agent.budgets.convert import refusal_message
from gathering_agent.convert import message_message, struct, timestamp
from gathering_agent.models import Limits, Role, StopReason, Turn, TurnState
from gathering_agent.providers.models_calls import AttemptState, RecordedAttempt
from gathering_agent.providers.models_dialogue import Purpose
from gathering_agent.streams.models import (
    Activity,
    Began,
    Delta,
    Doing,
    Ended,
    Frame,
    Output,
    Reconnect,
    Stored,
    Withdrawn,
)

_STATES: dict[TurnState, turn_pb2.TurnState.ValueType] = {
    state: turn_pb2.TurnState.Value(f"TURN_STATE_{state.name}") for state in TurnState
}
_REASONS: dict[StopReason, turn_pb2.StopReason.ValueType] = {
    reason: turn_pb2.StopReason.Value(f"STOP_REASON_{reason.name}") for reason in StopReason
}
_ATTEMPT_STATES: dict[AttemptState, model_attempt_pb2.ModelAttemptState.ValueType] = {
    state: model_attempt_pb2.ModelAttemptState.Value(f"MODEL_ATTEMPT_STATE_{state.name}")
    for state in AttemptState
}
_PURPOSES: dict[Purpose, model_attempt_pb2.ModelCallPurpose.ValueType] = {
    purpose: model_attempt_pb2.ModelCallPurpose.Value(f"MODEL_CALL_PURPOSE_{purpose.name}")
    for purpose in Purpose
}

_NO_REASON = turn_pb2.StopReason.STOP_REASON_UNSPECIFIED


def limits_of(limits: turn_pb2.TurnLimits) -> Limits:
    """Return the bounds that a request names."""
    return Limits(limits.max_steps, limits.max_tool_calls)


def timeout_of(limits: turn_pb2.TurnLimits) -> timedelta | None:
    """Return how long a turn may take, if the request says it."""
    return limits.timeout.ToTimedelta() if limits.HasField("timeout") else None


def turn_message(turn: Turn) -> turn_pb2.Turn:
    """Return a turn as the contract has it."""
    usage = turn.usage
    return turn_pb2.Turn(
        turn_id=turn.id,
        session_id=turn.session_id,
        agent_id=turn.agent_id,
        task_id=turn.task_id,
        state=_STATES[turn.state],
        text=turn.text,
        result=struct(turn.result),
        stop_reason=_REASONS[turn.stop_reason] if turn.stop_reason else _NO_REASON,
        error_reason=turn.error_reason,
        error_message=turn.error_message,
        usage=turn_pb2.Usage(
            model_call_count=usage.model_calls,
            tool_call_count=usage.tool_calls,
            input_token_count=usage.input_tokens,
            output_token_count=usage.output_tokens,
            failed_call_count=usage.failed_calls,
            failed_token_count=usage.failed_tokens,
            cached_input_token_count=usage.cached_tokens,
            cost_micro_usd=usage.cost,
            failed_cost_micro_usd=usage.failed_cost,
        ),
        model=turn.model,
        create_time=timestamp(turn.create_time),
        end_time=timestamp(turn.end_time),
        agent_version=turn.agent_version,
        budget_refusal=refusal_message(turn.refusal),
        deadline=timestamp(turn.deadline),
        start_time=timestamp(turn.start_time),
    )


def attempt_message(attempt: RecordedAttempt) -> model_attempt_pb2.ModelAttempt:
    """Return an attempt at a model call as the contract has it."""
    return model_attempt_pb2.ModelAttempt(
        turn_id=attempt.turn_id,
        step=attempt.place.step,
        model=attempt.model,
        state=_ATTEMPT_STATES[attempt.state],
        error_reason=attempt.error_reason,
        start_time=timestamp(attempt.start_time),
        end_time=timestamp(attempt.end_time),
        input_token_count=attempt.input_tokens,
        output_token_count=attempt.output_tokens,
        cached_input_token_count=attempt.cached_tokens,
        cost_micro_usd=attempt.cost,
        estimated=attempt.estimated,
        purpose=_PURPOSES[attempt.purpose],
    )


def frame_message(frame: Frame) -> turn_pb2.TurnFrame:
    """Return a frame as the contract has it."""
    message = turn_pb2.TurnFrame(cursor=frame.cursor)
    body = frame.body
    if isinstance(body, Delta):
        delta = turn_pb2.TextDelta(step=body.step, offset_bytes=body.offset, text=body.text)
        message.text_delta.CopyFrom(delta)
    elif isinstance(body, Stored):
        results = body.message.role is Role.TOOL
        target = message.tool_results if results else message.step
        target.CopyFrom(message_message(body.message))
    elif isinstance(body, Began):
        message.turn.CopyFrom(turn_message(body.turn))
    elif isinstance(body, Activity):
        _activity(message, body)
    elif isinstance(body, Output):
        message.tool_output.CopyFrom(_output_message(body))
    elif isinstance(body, Withdrawn):
        message.step_withdrawn.step = body.step
    elif isinstance(body, Reconnect):
        message.reconnect.reason = body.reason
    else:
        _end(message, body)
    return message


def _activity(message: turn_pb2.TurnFrame, activity: Activity) -> None:
    targets = {
        Doing.STARTED: message.tool_started,
        Doing.FINISHED: message.tool_finished,
        Doing.AWAITS_APPROVAL: message.tool_awaits_approval,
    }
    told = turn_pb2.ToolActivity(
        step=activity.step,
        call_id=activity.call_id,
        tool=activity.tool,
        execution_id=activity.execution_id,
        failed=activity.failed,
    )
    targets[activity.doing].CopyFrom(told)


def _output_message(output: Output) -> turn_pb2.ToolOutput:
    return turn_pb2.ToolOutput(
        step=output.step,
        call_id=output.call_id,
        execution_id=output.execution_id,
        attempt=output.attempt,
        offset_bytes=output.offset,
        text=output.text.decode(errors="replace"),
    )


def _end(message: turn_pb2.TurnFrame, ended: Ended) -> None:
    targets = {
        TurnState.COMPLETED: message.completed,
        TurnState.FAILED: message.failed,
        TurnState.CANCELLED: message.cancelled,
    }
    targets[ended.turn.state].CopyFrom(turn_message(ended.turn))
