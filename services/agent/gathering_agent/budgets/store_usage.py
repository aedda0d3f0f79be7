"""What was used, counted from the rows of attempts."""

from __future__ import annotations

from gathering_agent.budgets.models_usage import (
    After,
    Bucket,
    Dimension,
    Period,
    UsageQuery,
    UsageRow,
)
from gathering_agent.providers.models_calls import AttemptState, Place, RecordedAttempt
from gathering_agent.providers.models_dialogue import Purpose
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

_COLUMNS = {
    Dimension.AGENT: "agent_id",
    Dimension.MODEL: "model",
    Dimension.TASK: "task_id",
    Dimension.SESSION: "session_id",
    Dimension.USER: "owner_user_id",
}
_TIMES = {
    Bucket.NONE: "null::timestamptz",
    Bucket.HOUR: "date_trunc('hour', end_time, 'UTC')",
    Bucket.DAY: "date_trunc('day', end_time, 'UTC')",
    Bucket.MONTH: "date_trunc('month', end_time, 'UTC')",
}
_SUMS = """count(*) filter (where error_reason = '') as calls,
    count(*) filter (where error_reason <> '') as failed_calls,
    sum(input_tokens)::bigint as input_tokens, sum(cached_tokens)::bigint as cached_tokens,
    sum(output_tokens)::bigint as output_tokens,
    coalesce(sum(input_tokens + output_tokens) filter (where estimated), 0)::bigint
        as estimated_tokens,
    coalesce(sum(cost), 0)::bigint as cost,
    count(*) filter (where cost is null) as unpriced_calls"""

_PLACE = "(step, split_part(generation, '-', 1)::bigint, split_part(generation, '-', 2)::int)"
_ATTEMPTS = f"""
select turn_id, step, generation, model, error_reason, start_time, end_time, input_tokens,
    output_tokens, cached_tokens, cost, estimated, unsent, purpose
from agent.model_attempts
where tenant_id = $1 and turn_id = $2 and {_PLACE} > ($3::bigint, $4::bigint, $5::bigint)
order by {_PLACE} limit $6
"""  # noqa: S608 (names of columns)
_BEFORE_ALL = Place(0, 0, 0)


class UsageStore:
    """See `ports.UsageRows`."""

    async def page(
        self, tx: Transaction, query: UsageQuery, period: Period, *, after: After | None, limit: int
    ) -> list[UsageRow]:
        """Return rows in order of time, then of names."""
        which = query.which
        wanted = {
            "owner_user_id": which.user_id,
            "agent_id": which.agent_id,
            "session_id": which.session_id,
            "task_id": which.task_id,
            "model": which.model,
        }
        given = {name: value for name, value in wanted.items() if value}
        filters = "".join(f" and {name} = ${n}" for n, name in enumerate(given, 5))
        args: list[object] = [tx.tenant, period.start, period.end, limit, *given.values()]
        names = [_COLUMNS[one] for one in query.dimensions]
        keys = [*(["time"] if query.bucket else []), *names]
        behind = ""
        if after is not None and keys:
            values = [*([after.time] if query.bucket else []), *after.names]
            places = ", ".join(f"${len(args) + n}" for n in range(1, len(values) + 1))
            behind = f" where ({', '.join(keys)}) > ({places})"
            args += values
        grouped = ", ".join([_TIMES[query.bucket], *names])
        # All that is put in is a name of ours or a place.
        sql = (
            f"select * from (select {_TIMES[query.bucket]} as time"  # noqa: S608
            f"{''.join(f', {name}' for name in names)}, {_SUMS} from agent.model_attempts"
            " where tenant_id = $1 and end_time >= $2 and end_time < $3"
            f"{filters} group by {grouped}) as used{behind}"
            f"{' order by ' + ', '.join(keys) if keys else ''} limit $4"
        )
        return [_row(row, names) for row in await tx.fetch(sql, *args)]

    async def attempts(
        self, tx: Transaction, turn_id: str, *, after: Place | None, limit: int
    ) -> list[RecordedAttempt]:
        """Return the attempts of a turn behind a place, in the order in which they began."""
        place = after or _BEFORE_ALL
        return list(map(_attempt, await tx.fetch(_ATTEMPTS, tx.tenant, turn_id, *place, limit)))


def _attempt(row: Row) -> RecordedAttempt:
    fence, _, attempt = row["generation"].partition("-")
    return RecordedAttempt(
        turn_id=row["turn_id"],
        place=Place(row["step"], int(fence), int(attempt)),
        model=row["model"],
        state=_state(row),
        error_reason=row["error_reason"],
        start_time=row["start_time"],
        end_time=row["end_time"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cached_tokens=row["cached_tokens"],
        cost=row["cost"],
        estimated=row["estimated"],
        purpose=Purpose(row["purpose"]),
    )


def _state(row: Row) -> AttemptState:
    if row["end_time"] is None:
        return AttemptState.IN_FLIGHT
    if not row["error_reason"]:
        return AttemptState.ANSWERED
    return AttemptState.SKIPPED if row["unsent"] else AttemptState.FAILED


def _row(row: Row, names: list[str]) -> UsageRow:
    return UsageRow(
        row["time"],
        tuple(row[name] for name in names),
        row["calls"],
        row["failed_calls"],
        row["input_tokens"],
        row["cached_tokens"],
        row["output_tokens"],
        row["estimated_tokens"],
        row["cost"],
        row["unpriced_calls"],
    )
