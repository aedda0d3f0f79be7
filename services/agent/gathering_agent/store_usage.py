"""What was used, counted from the rows of attempts."""

from __future__ import annotations

from gathering_agent.models_usage import After, Bucket, Dimension, Period, UsageQuery, UsageRow
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


class UsageStore:
    """See `ports_spending.UsageRows`."""

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
