"""The rows of circuits, which replicas share. Failures alone write here."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import timedelta

from gathering_agent.providers.models_circuits import Circuit, CircuitTerms
from gathering_mesh.statements import Row, Statements

_ALL = """
select name, failures, reason, failure_time,
    extract(epoch from open_until - clock_timestamp())::float8 as opens_in,
    extract(epoch from probe_until - clock_timestamp())::float8 as tried_for
from agent.circuits
where greatest(failure_time, open_until, probe_until) > clock_timestamp() - interval '1 hour'
order by name
"""
# What is not read any more. Rows that others have locked are left to the next one.
_PRUNE = """
with old as (
    select name from agent.circuits
    where greatest(failure_time, open_until, probe_until) <= clock_timestamp() - interval '1 hour'
    for update skip locked)
delete from agent.circuits c using old where c.name = old.name
"""
# Calls that were in flight when it opened do not keep it open for longer.
_FAILED = """
insert into agent.circuits as c (name, failures, reason, failure_time, open_until)
values ($1, 1, $2, clock_timestamp(),
    case when $3::int <= 1 then clock_timestamp() + $4::interval end)
on conflict (name) do update set reason = excluded.reason, failure_time = excluded.failure_time,
    failures = case
        when c.open_until is null and c.failure_time < clock_timestamp() - $5::interval then 1
        else c.failures + 1
    end,
    open_until = case
        when c.open_until > clock_timestamp() then c.open_until
        when c.open_until is not null then clock_timestamp() + $4::interval
        when c.failures + 1 >= $3::int and c.failure_time >= clock_timestamp() - $5::interval
            then clock_timestamp() + $4::interval
        when $3::int <= 1 then clock_timestamp() + $4::interval
    end,
    probe_until = case when c.open_until > clock_timestamp() then c.probe_until end
"""
_PROBE = """
update agent.circuits set probe_until = clock_timestamp() + $2::interval
where name = any($1) and open_until <= clock_timestamp()
    and coalesce(probe_until <= clock_timestamp(), true)
returning name
"""
_ALIVE = """
update agent.circuits set open_until = null, probe_until = null, failures = $2
where name = any($1) and open_until is not null
"""
_ANSWERED = """
update agent.circuits set failures = 0
where name = any($1) and open_until is null and failures > 0
"""
_GIVE_BACK = "update agent.circuits set probe_until = null where name = any($1)"


class CircuitStore:
    """See `ports.CircuitRows`."""

    async def all(self, tx: Statements) -> list[Circuit]:
        """Return the circuits that failed, were open or tried in the last hour."""
        rows = await tx.fetch(_ALL)
        return [_circuit(row) for row in rows]

    async def failed(
        self, tx: Statements, name: str, reason: str, terms: CircuitTerms, open_seconds: float
    ) -> None:
        """Count a failure; enough of them in a row open the circuit for so many seconds."""
        spans = (timedelta(seconds=open_seconds), timedelta(seconds=terms.window))
        await tx.run(_PRUNE)  # first: what was long ago does not count with this one
        await tx.run(_FAILED, name, reason, terms.failures, *spans)

    async def probe(self, tx: Statements, names: Collection[str], seconds: float) -> list[str]:
        """Take the right to try for open circuits whose time is over; return those it got."""
        got = await tx.fetch(_PROBE, sorted(names), timedelta(seconds=seconds))
        return [row["name"] for row in got]

    async def alive(self, tx: Statements, names: Collection[str], failures: int) -> None:
        """Close circuits on trial: so many failures are counted already."""
        await tx.run(_ALIVE, sorted(names), failures)

    async def answered(self, tx: Statements, names: Collection[str]) -> None:
        """Forget the failures of closed circuits."""
        await tx.run(_ANSWERED, sorted(names))

    async def give_back(self, tx: Statements, names: Collection[str]) -> None:
        """Let another call try."""
        await tx.run(_GIVE_BACK, sorted(names))


def _circuit(row: Row) -> Circuit:
    return Circuit(
        name=row["name"],
        failures=row["failures"],
        opens_in=row["opens_in"],
        tried_for=row["tried_for"] or 0.0,
        reason=row["reason"],
        failure_time=row["failure_time"],
        read=time.monotonic(),
    )
