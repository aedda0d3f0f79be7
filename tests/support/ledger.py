"""What budgets say, held against the calls that were made: from the tables, not by the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.postgres import TestDatabase

# What was used and what is in flight, by budget.
_SUMS = """
select b.id, b.level, b.subject_id, b.max_tokens, b.max_cost, b.max_calls,
    b.spent_tokens, b.spent_cost, b.spent_calls,
    b.reserved_tokens, b.reserved_cost, b.reserved_calls,
    coalesce(sum(a.input_tokens + a.output_tokens) filter (where a.end_time is not null), 0)
        as used_tokens,
    coalesce(sum(a.cost) filter (where a.end_time is not null), 0) as used_cost,
    count(a) filter (where a.end_time is not null and not a.unsent) as used_calls,
    coalesce(sum(a.reserved_tokens) filter (where a.end_time is null), 0) as held_tokens,
    coalesce(sum(a.reserved_cost) filter (where a.end_time is null), 0) as held_cost,
    count(a) filter (where a.end_time is null) as held_calls
from agent.budgets b left join agent.model_attempts a
    on a.tenant_id = b.tenant_id and b.id = any(a.budgets)
group by b.tenant_id, b.id
"""
# What turns say of their calls that is not what was recorded of them.
_TURNS = """
select t.id, t.model_calls, t.failed_calls, t.input_tokens, t.failed_tokens, t.cost, t.failed_cost
from agent.turns t left join agent.model_attempts a
    on a.tenant_id = t.tenant_id and a.turn_id = t.id and a.end_time is not null
group by t.tenant_id, t.id
having t.model_calls <> count(a) filter (where a.error_reason = '')
    or t.failed_calls <> count(a) filter (where a.error_reason <> '')
    or t.input_tokens + t.output_tokens
        <> coalesce(sum(a.input_tokens + a.output_tokens) filter (where a.error_reason = ''), 0)
    or t.failed_tokens
        <> coalesce(sum(a.input_tokens + a.output_tokens) filter (where a.error_reason <> ''), 0)
    or t.cost <> coalesce(sum(a.cost) filter (where a.error_reason = ''), 0)
    or t.failed_cost <> coalesce(sum(a.cost) filter (where a.error_reason <> ''), 0)
"""
_OPEN = "select count(*) from agent.model_attempts where end_time is null"
_KINDS = ("tokens", "cost", "calls")


@dataclass(frozen=True)
class Books:
    """The budgets and attempts of a database."""

    database: TestDatabase

    async def faults(self) -> list[str]:
        """Return where a cap was passed, or a budget does not say what its calls used."""
        async with self.database.server.admin(self.database.name) as admin:
            rows = await admin.fetch(_SUMS)
            turns = await admin.fetch(_TURNS)
        found = [fault for row in rows for fault in _faults(row)]
        return found + [f"turn says otherwise: {dict(row)}" for row in turns]

    async def in_flight(self) -> int:
        """Return how many calls have begun and not ended."""
        async with self.database.server.admin(self.database.name) as admin:
            return int(await admin.fetchval(_OPEN))

    async def attempts(self, turn_id: str) -> list[dict[str, Any]]:
        """Return the attempts of a turn, oldest first."""
        async with self.database.server.admin(self.database.name) as admin:
            rows = await admin.fetch(
                "select * from agent.model_attempts where turn_id = $1 order by start_time", turn_id
            )
        return [dict(row) for row in rows]


def _faults(row: Any) -> list[str]:
    name = f"{row['level']} {row['subject_id']}"
    found = []
    for kind in _KINDS:
        spent, reserved, cap = row[f"spent_{kind}"], row[f"reserved_{kind}"], row[f"max_{kind}"]
        if (spent, reserved) != (row[f"used_{kind}"], row[f"held_{kind}"]):
            found.append(f"{name}: {kind} {spent} + {reserved} and not as its calls: {dict(row)}")
        if cap is not None and spent + reserved > cap:
            found.append(f"{name}: {kind} {spent} + {reserved} passed {cap}")
    return found
