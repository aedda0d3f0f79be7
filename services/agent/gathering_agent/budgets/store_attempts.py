"""The rows of attempts at model calls, and what they book on budgets.

Plain SQL, one statement for each booking: it locks the budgets in the order of their ids, so that
no two bookings wait for each other, and books on all of them or on none. Whoever locks a turn's
row as well does so before.
"""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.budgets.models import Cap, Denied, Granted
from gathering_agent.budgets.store import COLUMNS, budget
from gathering_agent.errors import ModelPriceUnknown
from gathering_agent.models import Turn
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

# $1 tenant, $2 budgets; $3 output that is wanted, $4 that is the least of use; $5 input; prices of
# input and output per million, null: not known; then the attempt. The output is cut to what is not
# spent; what is reserved may come back, so that it is worth waiting for.
_RESERVE = f"""
with held as materialized (
    select {COLUMNS} from agent.budgets
    where tenant_id = $1 and id = any($2) and delete_time is null order by id for no key update
), room as (
    select greatest($4::bigint, least(
        $3::numeric,
        min(max_tokens - spent_tokens - $5::bigint),
        min(case when $7::bigint > 0 then
            div((max_cost - spent_cost)::numeric * 1000000 - $5::numeric * $6::bigint, $7::bigint)
        end)
    )::bigint) as output from held
), want as (
    select output, output + $5::bigint as tokens,
        coalesce(ceil(
            ($5::numeric * $6::bigint + output::numeric * $7::bigint) / 1000000
        ), 0)::bigint as cost
    from room
), judged as (
    select held.*,
        coalesce(spent_tokens + reserved_tokens + want.tokens > max_tokens, false) as no_tokens,
        coalesce(spent_cost + reserved_cost + want.cost > max_cost, false) as no_cost,
        coalesce(spent_calls + reserved_calls + 1 > max_calls, false) as no_calls,
        coalesce(clock_timestamp() >= create_time + make_interval(secs => max_seconds), false)
            as no_time,
        max_cost is not null and ($6::bigint is null or $7::bigint is null) as no_price
    from held, want
), refused as (
    select from judged where no_tokens or no_cost or no_calls or no_time or no_price
), booked as (
    update agent.budgets b set reserved_tokens = b.reserved_tokens + want.tokens,
        reserved_cost = b.reserved_cost + want.cost, reserved_calls = b.reserved_calls + 1
    from held, want
    where b.tenant_id = $1 and b.id = held.id and not exists (select from refused)
), noted as (
    insert into agent.model_attempts (tenant_id, turn_id, step, generation, model, start_time,
        agent_id, session_id, task_id, owner_user_id, error_reason, estimated,
        input_tokens, output_tokens, cost, reserved_tokens, reserved_cost, budgets, purpose)
    select $1, $8, $9, $10, $11, $12, $13, $14, $15, $16, '', true,
        $5, output, case when $6::bigint is null or $7::bigint is null then null else cost end,
        tokens, cost, array(select id from held order by id), $17
    from want where not exists (select from refused)
)
select judged.*, want.output, want.tokens as wants_tokens, want.cost as wants_cost
from want left join judged on true order by judged.id
"""  # noqa: S608 (names of columns)
# What ends; a row of before is an attempt that was reserved, and ends once.
_END = """
insert into agent.model_attempts as was (tenant_id, turn_id, step, generation, model, start_time,
    agent_id, session_id, task_id, owner_user_id, error_reason, estimated, input_tokens,
    output_tokens, cost, cached_tokens, cache_write_tokens, unsent, purpose, end_time)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    clock_timestamp())
on conflict (tenant_id, turn_id, step, generation) do update set
    error_reason = excluded.error_reason, estimated = excluded.estimated,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    cost = excluded.cost, cached_tokens = excluded.cached_tokens,
    cache_write_tokens = excluded.cache_write_tokens, unsent = excluded.unsent,
    end_time = excluded.end_time
where was.end_time is null
"""
_EXPIRE = """
update agent.model_attempts set error_reason = $3, end_time = clock_timestamp()
where tenant_id = $1 and turn_id = $2 and end_time is null
"""
# Behind one of these as `ended`: what was reserved goes, what was used stays.
_BOOK = """
ended as ({ending}
    returning budgets, reserved_tokens, reserved_cost, unsent, input_tokens, output_tokens, cost
), moved as materialized (
    select b.id as budget_id, sum(reserved_tokens) as tokens_back, sum(reserved_cost) as cost_back,
        count(*) as calls_back, sum(input_tokens + output_tokens) as tokens,
        sum(coalesce(cost, 0)) as cost, count(*) filter (where not unsent) as calls
    from ended, unnest(budgets) as b (id) group by b.id
), held as materialized (
    select id from agent.budgets where tenant_id = $1 and id in (select budget_id from moved)
    order by id for no key update
), booked as (
    update agent.budgets b set
        reserved_tokens = b.reserved_tokens - tokens_back,
        reserved_cost = b.reserved_cost - cost_back,
        reserved_calls = b.reserved_calls - calls_back,
        spent_tokens = b.spent_tokens + tokens, spent_cost = b.spent_cost + moved.cost,
        spent_calls = b.spent_calls + calls
    from held join moved on moved.budget_id = held.id
    where b.tenant_id = $1 and b.id = held.id
)"""
_SETTLE = f"with {_BOOK.format(ending=_END)} select count(*) from ended"  # noqa: S608
_RECORD = f"with ended as ({_END} returning 1) select count(*) from ended"  # noqa: S608
_SETTLE_LOST = f"""
with {_BOOK.format(ending=_EXPIRE)}, lost as (
    select count(*) as calls, coalesce(sum(input_tokens + output_tokens), 0) as tokens,
        coalesce(sum(cost), 0) as cost, bool_or(cost is null) as unpriced
    from ended
)
update agent.turns set failed_calls = failed_calls + lost.calls,
    failed_tokens = failed_tokens + lost.tokens,
    failed_cost = case when unpriced then null else failed_cost + lost.cost end
from lost where tenant_id = $1 and id = $2 and lost.calls > 0
"""  # noqa: S608 (a statement of ours)
_COUNT = """
update agent.turns set failed_calls = failed_calls + 1, failed_tokens = failed_tokens + $3,
    failed_cost = failed_cost + $4
where tenant_id = $1 and id = $2
"""
LOST = "LEASE_LOST"  # why an attempt came to nothing whose replica was lost with it


class AttemptStore:
    """See `ports.AttemptRows`."""

    async def reserve(
        self, tx: Transaction, turn: Turn, begun: Begun, budgets: Sequence[str], least: int
    ) -> Granted | Denied:
        """Book the worst case of a call on budgets, on all or on none; ModelPriceUnknown."""
        prices = begun.model.prices
        rows = await tx.fetch(
            _RESERVE,
            tx.tenant,
            list(budgets),
            begun.request.max_output_tokens,
            least,
            begun.input_bound,
            prices.dearest_input,
            prices.output,
            *_named(turn, begun.request.step, begun.generation, begun.model.name),
            begun.start_time,
            *_owned(turn),
            begun.request.purpose.value,
        )
        if any(row["no_price"] for row in rows):
            raise ModelPriceUnknown(f"a budget caps money and {begun.model.name} has no prices")
        denied = [one for row in rows for one in _denials(row)]
        if not denied:
            return Granted(rows[0]["output"])
        return next((one for one in denied if not one.passes), denied[0])

    async def settle(self, tx: Transaction, turn: Turn, attempt: Attempt) -> None:
        """Record what an attempt used, once, and book it; the turn counts what came to nothing."""
        ended = await tx.fetch_value(
            _SETTLE if attempt.reserved else _RECORD,
            tx.tenant,
            *_named(turn, attempt.step, attempt.generation, attempt.model),
            attempt.start_time,
            *_owned(turn),
            attempt.error_reason,
            attempt.estimated,
            attempt.input_tokens,
            attempt.output_tokens,
            attempt.cost,
            attempt.cached_tokens,
            attempt.cache_write_tokens,
            attempt.unsent,
            attempt.purpose.value,
        )
        if ended and attempt.error_reason:
            await tx.run(_COUNT, tx.tenant, turn.id, attempt.tokens, attempt.cost)

    async def settle_lost(self, tx: Transaction, turn_id: str) -> None:
        """End the attempts of a turn that nobody will end any more, at their bounds."""
        await tx.run(_SETTLE_LOST, tx.tenant, turn_id, LOST)


def _named(turn: Turn, step: int, generation: str, model: str) -> tuple[object, ...]:
    return (turn.id, step, generation, model)


def _owned(turn: Turn) -> tuple[object, ...]:
    return (turn.agent_id, turn.session_id, turn.task_id, turn.owner_user_id)


def _denials(row: Row) -> list[Denied]:
    """Return by which caps a budget refused."""
    if row["id"] is None:
        return []
    one = budget(row)
    caps, spent, reserved = one.caps, one.spent, one.reserved
    wants = (
        (row["no_tokens"], Cap.TOKENS, caps.tokens, spent.tokens, reserved.tokens,
         row["wants_tokens"]),
        (row["no_cost"], Cap.COST, caps.cost, spent.cost, reserved.cost, row["wants_cost"]),
        (row["no_calls"], Cap.MODEL_CALLS, caps.calls, spent.calls, reserved.calls, 1),
    )  # fmt: skip
    found = [
        Denied(one.refusal(cap, limit, max(0, limit - used - held), wanted), used + wanted <= limit)
        for refused, cap, limit, used, held, wanted in wants
        if refused and limit is not None
    ]
    return [Denied(one.late(), passes=False), *found] if row["no_time"] else found
