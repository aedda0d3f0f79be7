"""The statements of a durable consumer: how far it is, and what it has set aside."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gathering.events.v1 import event_pb2
from gathering_mesh.log_rows import Position
from gathering_mesh.statements import Row, Statements

_BEGIN = """
insert into consumer (name, source, epoch, position) values ($1, $2, '', 0)
on conflict (name, source) do nothing
"""
_READ = "select epoch, position from consumer where name = $1 and source = $2"
_LOCK = """
select epoch, position, array (
    select aggregate_id from parked
    where name = $1 and source = $2 and tenant_id = $3 and aggregate_id = any ($4)) as parked
from consumer where name = $1 and source = $2 for update
"""
_ADVANCE = """
update consumer set epoch = $3, position = $4, updated_at = now()
where name = $1 and source = $2
"""
_SKIP = """
update consumer set epoch = $3, position = $4, updated_at = now()
where name = $1 and source = $2 and epoch in ('', $3) and position < $4 and position >= $5
"""
_JUMP = """
update consumer set epoch = $5, position = $6, updated_at = now(),
    gap_count = gap_count + 1, last_gap = $7, last_gap_at = now()
where name = $1 and source = $2 and epoch = $3 and position = $4
"""
_PARK = """
insert into parked (tenant_id, name, source, aggregate_id, event, error, attempt)
values ($1, $2, $3, $4, $5, $6, $7)
"""
_PARKED = """
select tenant_id, aggregate_id from parked where name = $1 and source = $2
group by tenant_id, aggregate_id order by min(seq)
"""
# Not `skip locked`: the second event of an aggregate must not overtake its first.
_OLDEST = """
select seq, event from parked
where name = $1 and source = $2 and tenant_id = $3 and aggregate_id = $4
order by seq limit 1 for update
"""
_UNPARK = "delete from parked where seq = $1"
_FAILED_AGAIN = "update parked set error = $2, attempt = attempt + 1 where seq = $1"
_ERROR_CHARS = 500


@dataclass(frozen=True, slots=True)
class State:
    """How far a consumer is, and of which of the aggregates at hand earlier events are parked."""

    at: Position
    parked: frozenset[str]


@dataclass(frozen=True, slots=True)
class ConsumerRows:
    """The rows of one consumer."""

    name: str
    source: str

    async def begin(self, tx: Statements) -> Position:
        """Return where the consumer stands; a new one stands before everything."""
        await tx.run(_BEGIN, self.name, self.source)
        row = await tx.fetch_one(_READ, self.name, self.source)
        return _position(row)

    async def lock(self, tx: Statements, tenant: str, aggregate_ids: Collection[str]) -> State:
        """Lock the consumer until the end of the transaction; other replicas wait."""
        row = await tx.fetch_one(_LOCK, self.name, self.source, tenant, list(aggregate_ids))
        return State(_position(row), frozenset(row["parked"] if row else ()))

    async def advance(self, tx: Statements, to: Position) -> None:
        """Move on, under the lock."""
        await tx.run(_ADVANCE, self.name, self.source, *to)

    async def skip(self, tx: Statements, start: Position, to: Position) -> Position:
        """Move over entries that are none of this consumer's; return where it stands then.

        Never back, and not from before `start`: what lies between has not had its effect.
        """
        await tx.run(_SKIP, self.name, self.source, *to, start.position)
        return _position(await tx.fetch_one(_READ, self.name, self.source))

    async def jump(self, tx: Statements, start: Position, to: Position, why: str) -> bool:
        """Move over a gap and record it; False if the consumer does not stand at its start."""
        return await tx.run(_JUMP, self.name, self.source, *start, *to, why) == 1

    async def park(
        self, tx: Statements, tenant: str, event: event_pb2.Event, error: str, attempts: int
    ) -> None:
        """Set an event aside."""
        await tx.run(
            _PARK,
            tenant,
            self.name,
            self.source,
            event.aggregate_id,
            event.SerializeToString(),
            error[:_ERROR_CHARS],
            attempts,
        )

    async def parked_aggregates(self, tx: Statements) -> list[tuple[str, str]]:
        """Return tenant and id of the aggregates with parked events (as the system role)."""
        rows = await tx.fetch(_PARKED, self.name, self.source)
        return [(row["tenant_id"], row["aggregate_id"]) for row in rows]

    async def oldest(
        self, tx: Statements, tenant: str, aggregate_id: str
    ) -> tuple[int, event_pb2.Event] | None:
        """Lock and return the first parked event of an aggregate, with its row's number."""
        row = await tx.fetch_one(_OLDEST, self.name, self.source, tenant, aggregate_id)
        return None if row is None else (row["seq"], event_pb2.Event.FromString(row["event"]))


async def unpark(tx: Statements, seq: int) -> None:
    """Delete a parked event."""
    await tx.run(_UNPARK, seq)


async def failed_again(tx: Statements, seq: int, error: str) -> None:
    """Keep a parked event with its newest error."""
    await tx.run(_FAILED_AGAIN, seq, error[:_ERROR_CHARS])


def _position(row: Row | None) -> Position:
    if row is None:
        raise LookupError("the consumer's row was deleted while it ran")
    return Position(row["epoch"], row["position"])
