"""Proto to model and back, for budgets and usage; pure."""

from __future__ import annotations

from collections.abc import Iterable

from gathering.agent.v1 import budget_pb2, budget_service_pb2
from gathering_agent.budgets.models import NO_CAPS, Amount, Budget, Cap, Caps, Level
from gathering_agent.budgets.models_usage import (
    Bucket,
    Dimension,
    UsageFilter,
    UsageQuery,
    UsageRow,
)
from gathering_agent.convert import timestamp
from gathering_agent.errors import Refusal

_LEVELS = {level: budget_pb2.BudgetLevel.Value(f"BUDGET_LEVEL_{level.name}") for level in Level}
_LEVEL_OF = {value: level for level, value in _LEVELS.items()}
_CAPS = {cap: budget_pb2.BudgetCap.Value(f"BUDGET_CAP_{cap.name}") for cap in Cap}
_BUCKETS = {
    budget_service_pb2.UsageBucket.Value(f"USAGE_BUCKET_{bucket.name}"): bucket
    for bucket in Bucket
    if bucket
}
_DIMENSIONS = {
    budget_service_pb2.UsageDimension.Value(f"USAGE_DIMENSION_{one.name}"): one for one in Dimension
}
_FIELDS = {
    Dimension.AGENT: "agent_id",
    Dimension.MODEL: "model",
    Dimension.TASK: "task_id",
    Dimension.SESSION: "session_id",
    Dimension.USER: "user_id",
}


def level_of(value: int) -> Level | None:
    """Return a level, None where none is given."""
    return _LEVEL_OF.get(budget_pb2.BudgetLevel.ValueType(value))


def caps_of(message: budget_pb2.BudgetCaps) -> Caps:
    """Return the caps that a request names."""
    caps = Caps(
        tokens=message.max_tokens if message.HasField("max_tokens") else None,
        cost=message.max_cost_micro_usd if message.HasField("max_cost_micro_usd") else None,
        calls=message.max_model_calls if message.HasField("max_model_calls") else None,
        wall_time=(
            message.max_wall_time.ToTimedelta() if message.HasField("max_wall_time") else None
        ),
    )
    return NO_CAPS if caps == NO_CAPS else caps


def caps_message(caps: Caps) -> budget_pb2.BudgetCaps:
    """Return caps as the contract has them."""
    message = budget_pb2.BudgetCaps(
        max_tokens=caps.tokens, max_cost_micro_usd=caps.cost, max_model_calls=caps.calls
    )
    if caps.wall_time is not None:
        message.max_wall_time.FromTimedelta(caps.wall_time)
    return message


def budget_message(budget: Budget) -> budget_pb2.Budget:
    """Return a budget as the contract has it."""
    return budget_pb2.Budget(
        budget_id=budget.id,
        level=_LEVELS[budget.subject.level],
        subject_id=budget.subject.id,
        parent_budget_id=budget.parent_id,
        caps=caps_message(budget.caps),
        spent=_amount(budget.spent),
        reserved=_amount(budget.reserved),
        create_time=timestamp(budget.create_time),
        update_time=timestamp(budget.update_time),
        etag=budget.etag,
    )


def _amount(amount: Amount) -> budget_pb2.BudgetAmount:
    return budget_pb2.BudgetAmount(
        tokens=amount.tokens, cost_micro_usd=amount.cost, model_calls=amount.calls
    )


def refusal_message(refusal: Refusal | None) -> budget_pb2.BudgetRefusal | None:
    """Return why a call was refused as the contract has it; None stays absent."""
    if refusal is None:
        return None
    return budget_pb2.BudgetRefusal(
        budget_id=refusal.budget_id,
        level=_LEVELS[Level(refusal.level)],
        subject_id=refusal.subject_id,
        cap=_CAPS[Cap(refusal.cap)],
        limit=refusal.limit,
        left=refusal.left,
        wanted=refusal.wanted,
    )


def usage_query(request: budget_service_pb2.GetUsageRequest) -> UsageQuery:
    """Return what a request asks for; dimensions in the order of rows, each once."""
    asked = {_DIMENSIONS[one] for one in request.group_by if one in _DIMENSIONS}
    return UsageQuery(
        UsageFilter("", request.agent_id, request.session_id, request.task_id, request.model),
        _BUCKETS.get(request.bucket, Bucket.NONE),
        tuple(one for one in Dimension if one in asked),
    )


def usage_message(row: UsageRow, dimensions: Iterable[Dimension]) -> budget_service_pb2.UsageRow:
    """Return a row of usage as the contract has it."""
    names = {_FIELDS[one]: name for one, name in zip(dimensions, row.names, strict=True)}
    return budget_service_pb2.UsageRow(
        bucket_time=timestamp(row.time),
        model_call_count=row.calls,
        failed_call_count=row.failed_calls,
        input_token_count=row.input_tokens,
        cached_input_token_count=row.cached_tokens,
        output_token_count=row.output_tokens,
        estimated_token_count=row.estimated_tokens,
        cost_micro_usd=row.cost,
        unpriced_call_count=row.unpriced_calls,
        **names,
    )
