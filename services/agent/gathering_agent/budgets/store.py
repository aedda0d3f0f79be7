"""The rows of budgets. What calls book on them is in `store_attempts`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from gathering_agent.budgets.models import (
    Amount,
    Budget,
    BudgetFilter,
    BudgetTerms,
    Caps,
    Level,
    Subject,
)
from gathering_agent.errors import BadSubject, BudgetNotFound, BudgetNotYours
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

COLUMNS = """id, level, subject_id, parent_id, owner_user_id, by_admin, max_tokens, max_cost,
    max_calls, max_seconds, spent_tokens, spent_cost, spent_calls, reserved_tokens, reserved_cost,
    reserved_calls, version, create_time, update_time"""
_ALL = f"select {COLUMNS} from agent.budgets where tenant_id = $1"  # noqa: S608
_SELECT = f"{_ALL} and delete_time is null"
# Of a turn: tenant, agent, session, turn, task, and the tasks above that one.
_CHAIN = f"""
with recursive chain (id) as (
    select id from agent.budgets
    where tenant_id = $1 and delete_time is null and (level, subject_id) in
        (('tenant', ''), ('agent', $2), ('session', $3), ('turn', $4), ('task', $5))
    union
    select child.parent_id from chain join agent.budgets child
        on child.tenant_id = $1 and child.id = chain.id
    where child.parent_id is not null
)
{_SELECT} and id in (select id from chain) order by id
"""  # noqa: S608 (names of columns)
_ABOVE = """
with recursive above (id) as (
    select $2::text
    union
    select child.parent_id from above join agent.budgets child
        on child.tenant_id = $1 and child.id = above.id
    where child.parent_id is not null
)
select count(*) from above where id = $3
"""
_PUT = f"""
insert into agent.budgets as was (tenant_id, id, level, subject_id, owner_user_id, by_admin,
    max_tokens, max_cost, max_calls, max_seconds)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
on conflict (tenant_id, level, subject_id) where delete_time is null do update set
    by_admin = excluded.by_admin, max_tokens = excluded.max_tokens, max_cost = excluded.max_cost,
    max_calls = excluded.max_calls, max_seconds = excluded.max_seconds, version = was.version + 1,
    update_time = clock_timestamp()
where excluded.by_admin or not was.by_admin
returning {COLUMNS}
"""  # noqa: S608 (names of columns)
# Bookings lock for no key update, which this lets through; who deletes the task's budget waits.
_HOLD_TASK = """
select id from agent.budgets
where tenant_id = $1 and level = 'task' and subject_id = $2 and delete_time is null for key share
"""
# A task above may have no budget of its own yet: one without caps stands in its place.
_PLACE = """
insert into agent.budgets (tenant_id, id, level, subject_id, owner_user_id, by_admin)
values ($1, $2, 'task', $3, '', false)
on conflict (tenant_id, level, subject_id) where delete_time is null do nothing
"""
# One after the other: two that put tasks below each other would see nothing of it.
_ORDER = "select pg_advisory_xact_lock(hashtextextended('agent.budgets below ' || $1, 0))"
# Whoever puts another below holds it, and is waited for.
_CLOSE = "select from agent.budgets where tenant_id = $1 and id = $2 for update"
_CHILDREN = (
    "select count(*) from agent.budgets"
    " where tenant_id = $1 and parent_id = $2 and delete_time is null"
)


class BudgetStore:
    """See `ports.BudgetRows`."""

    async def chain(self, tx: Transaction, names: Sequence[str]) -> list[Budget]:
        """Return the budgets that bound a turn: of agent, session, turn and task, and above."""
        return list(map(budget, await tx.fetch(_CHAIN, tx.tenant, *names)))

    async def put(self, tx: Transaction, terms: BudgetTerms) -> Budget:
        """Set the caps of a subject, whose budget is made where there is none."""
        caps = terms.caps
        if terms.parent_task_id:
            await tx.run(_ORDER, tx.tenant)
        row = await tx.fetch_one(
            _PUT,
            tx.tenant,
            new_id("bgt"),
            terms.subject.level.value,
            terms.subject.id,
            terms.owner_user_id,
            terms.by_admin,
            caps.tokens,
            caps.cost,
            caps.calls,
            None if caps.wall_time is None else caps.wall_time.total_seconds(),
        )
        if row is None:
            raise BudgetNotYours("an administrator has set it")
        made = budget(row)
        if not terms.parent_task_id:
            return made
        return await self._below(tx, made, terms.parent_task_id)

    async def _below(self, tx: Transaction, child: Budget, task_id: str) -> Budget:
        parent_id = await self._held(tx, task_id)
        if child.parent_id not in ("", parent_id):
            raise BadSubject("wrong parent", fields={"parent_task_id": "is another than before"})
        if await tx.fetch_value(_ABOVE, tx.tenant, parent_id, child.id):
            raise BadSubject("wrong parent", fields={"parent_task_id": "is below the task"})
        row = await tx.fetch_one(
            "update agent.budgets set parent_id = $3 where tenant_id = $1 and id = $2"  # noqa: S608
            f" returning {COLUMNS}",
            tx.tenant,
            child.id,
            parent_id,
        )
        return child if row is None else budget(row)

    async def _held(self, tx: Transaction, task_id: str) -> str:
        """Return the budget of a task, made where there is none; nobody deletes it meanwhile."""
        while True:
            parent: str | None = await tx.fetch_value(_HOLD_TASK, tx.tenant, task_id)
            if parent is not None:
                return parent
            await tx.run(_PLACE, tx.tenant, new_id("bgt"), task_id)

    async def get(
        self, tx: Transaction, budget_id: str, *, lock: bool = False, deleted: bool = False
    ) -> Budget:
        """Return a budget; BudgetNotFound."""
        present = "" if deleted else " and delete_time is null"
        query = f"{_ALL}{present} and id = $2{' for no key update' if lock else ''}"
        row = await tx.fetch_one(query, tx.tenant, budget_id)
        if row is None:
            raise BudgetNotFound(budget_id)
        return budget(row)

    async def page(
        self, tx: Transaction, which: BudgetFilter, *, before: str, limit: int
    ) -> list[Budget]:
        """Return budgets, newest first."""
        wanted = {
            "level = ": which.level.value if which.level else "",
            "subject_id = ": which.subject_id,
            "owner_user_id in ('', ": which.seen_by,
        }
        given = {name: value for name, value in wanted.items() if value}
        filters = "".join(
            f" and {name}${n}{')' if '(' in name else ''}" for n, name in enumerate(given, 4)
        )
        query = f"{_SELECT} and ($2 = '' or id < $2){filters} order by id desc limit $3"
        return list(map(budget, await tx.fetch(query, tx.tenant, before, limit, *given.values())))

    async def remove(self, tx: Transaction, budget_id: str) -> bool:
        """Delete a budget unless another draws on it; tell whether it was deleted."""
        await tx.run(_CLOSE, tx.tenant, budget_id)
        if await tx.fetch_value(_CHILDREN, tx.tenant, budget_id):
            return False
        await tx.run(
            "update agent.budgets set delete_time = clock_timestamp()"
            " where tenant_id = $1 and id = $2",
            tx.tenant,
            budget_id,
        )
        return True


def budget(row: Row) -> Budget:
    """Return the budget of a row."""
    seconds = row["max_seconds"]
    wall_time = None if seconds is None else timedelta(seconds=seconds)
    return Budget(
        id=row["id"],
        subject=Subject(Level(row["level"]), row["subject_id"]),
        parent_id=row["parent_id"] or "",
        owner_user_id=row["owner_user_id"],
        by_admin=row["by_admin"],
        caps=Caps(row["max_tokens"], row["max_cost"], row["max_calls"], wall_time),
        spent=Amount(row["spent_tokens"], row["spent_cost"], row["spent_calls"]),
        reserved=Amount(row["reserved_tokens"], row["reserved_cost"], row["reserved_calls"]),
        version=row["version"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )
