"""Turns, tools and costs in a few words."""

import contextlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from gathering.agent.v1 import budget_pb2, session_pb2, turn_context_pb2, turn_pb2
from gathering.agent.v1.budget_service_pb2 import UsageRow
from gathering_client.errors import GatheringError
from gathering_client.output import visible

_SHORT = 100  # characters of arguments and results
_MICRO = 1_000_000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400  # seconds
_UNITS = {"tokens": " tokens", "model_calls": " model calls", "wall_time": " s", "cost": ""}
_HINTS = {
    "MODEL_NOT_CONFIGURED": "`gathering models` lists the models and whose key is missing.",
    "BUDGET_EXHAUSTED": "`gathering budgets list` shows the caps; an administrator can raise them.",
    "CREDENTIALS_REVOKED": "`gathering login` gives a new right.",
}


def call_words(tool: str, arguments: Struct) -> str:
    """Return a tool call as one short line."""
    given = ", ".join(f"{name}={_value(value)}" for name, value in MessageToDict(arguments).items())
    return visible(shortened(f"{tool}({given})", _SHORT + len(tool)))


def result_words(result: session_pb2.ToolResult) -> str:
    """Return what came of a tool call as one short line; of JSON its short fields come first."""
    with contextlib.suppress(ValueError):
        told = json.loads(result.text)
        if isinstance(told, dict):
            fields = sorted((f"{name}={_value(value)}" for name, value in told.items()), key=len)
            return visible(shortened(", ".join(fields), _SHORT))
    first = next((line for line in result.text.splitlines() if line.strip()), "nothing")
    return visible(shortened(first.strip(), _SHORT))


def usage_words(turn: turn_pb2.Turn) -> str:
    """Return what a turn used: `offline · 12 read, 3 written · 1 call · $0.000012 · 0.4 s`."""
    usage = turn.usage
    parts = [
        turn.model or "no model",
        tokens_words(usage.input_token_count, usage.output_token_count),
    ]
    parts.append(counted(usage.model_call_count, "model call"))
    if usage.tool_call_count:
        parts.append(counted(usage.tool_call_count, "tool call"))
    if usage.failed_call_count:
        parts.append(f"{usage.failed_call_count} failed")
    if usage.HasField("cost_micro_usd"):
        parts.append(dollars(usage.cost_micro_usd))
    if turn.HasField("end_time"):
        taken = turn.end_time.ToDatetime() - turn.create_time.ToDatetime()
        parts.append(f"{taken.total_seconds():.1f} s")
    return " · ".join(parts)


def spent_words(rows: Iterable[UsageRow]) -> str:
    """Return what a session used."""
    rows = list(rows)
    calls = sum(row.model_call_count for row in rows)
    read = sum(row.input_token_count for row in rows)
    written = sum(row.output_token_count for row in rows)
    unpriced = sum(row.unpriced_call_count for row in rows)
    cost = dollars(sum(row.cost_micro_usd for row in rows))
    if unpriced:
        cost += f" and {counted(unpriced, 'call')} without a price"
    return " · ".join([counted(calls, "model call"), tokens_words(read, written), cost])


def failure_words(turn: turn_pb2.Turn) -> str:
    """Return why a turn failed, and what can be done about it."""
    if turn.HasField("budget_refusal"):
        return f"{refusal_words(turn.budget_refusal)}\n{_HINTS['BUDGET_EXHAUSTED']}"
    hint = _HINTS.get(turn.error_reason, "")
    return f"{visible(turn.error_message)} [{turn.error_reason}]" + (f"\n{hint}" if hint else "")


def error_words(error: GatheringError) -> str:
    """Return why a call was refused, and what can be done about it."""
    hint = _HINTS.get(error.reason, "")
    return visible(str(error)) + (f"\n{hint}" if hint else "")


def refusal_words(refusal: budget_pb2.BudgetRefusal) -> str:
    """Return which cap refused a call, and what is left of it."""
    level = budget_pb2.BudgetLevel.Name(refusal.level).removeprefix("BUDGET_LEVEL_").lower()
    cap = budget_pb2.BudgetCap.Name(refusal.cap).removeprefix("BUDGET_CAP_").lower()

    def amount(value: int) -> str:
        return dollars(value) if cap == "cost" else f"{value}{_UNITS.get(cap, '')}"

    return (
        f"The budget of this {level} is used up: of {amount(refusal.limit)} there are "
        f"{amount(refusal.left)} left, and the next call might take {amount(refusal.wanted)}."
    )


def dollars(millionths: int) -> str:
    """Return millionths of a dollar, no more digits than they have."""
    whole, rest = divmod(millionths, _MICRO)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"${whole}.{digits}"


def tokens_words(read: int, written: int) -> str:
    """Return tokens read and written."""
    return f"{read} tokens read, {written} written"


def context_words(context: turn_context_pb2.TurnContext) -> str:
    """Return what a step was told in all, and how much of the conversation."""
    told = context.estimated_input_tokens
    if context.HasField("counted_input_tokens"):
        told = context.counted_input_tokens
    share = 100 * told / context.context_window_tokens if context.context_window_tokens else 0
    words = f"{context.model}: {told} of {context.context_window_tokens} tokens ({share:.1f} %)"
    if context.resume_strategy:
        name = session_pb2.ResumeStrategy.Name(context.resume_strategy)
        strategy = name.removeprefix("RESUME_STRATEGY_").lower().replace("_", "-")
        words += f"; what was said before: {strategy}, {context.resume_reason}"
    return visible(words)


def context_rows(context: turn_context_pb2.TurnContext) -> list[tuple[str, str, str, str]]:
    """Return the sections of a prompt: name, tokens, what became of it, why."""
    return [
        (
            section.name,
            str(section.token_count),
            turn_context_pb2.ContextState.Name(section.state)
            .removeprefix("CONTEXT_STATE_")
            .lower()
            .replace("_", " "),
            visible(section.reason),
        )
        for section in context.sections
    ]


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def span_words(span: timedelta) -> str:
    """Return a span in its largest unit."""
    seconds = max(0, round(span.total_seconds()))
    for unit, length in (("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE)):
        if seconds >= length:
            return counted(seconds // length, unit)
    return counted(seconds, "second")


def ago(time: Timestamp) -> str:
    """Return how long ago something was."""
    return f"{span_words(datetime.now(UTC) - time.ToDatetime(UTC))} ago"


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
