"""From the transaction that changes state to the log: append to the outbox, move to the log.

Bumping an aggregate's version locks its row until the commit, so writers of one aggregate come one
after the other, and the outbox sequence is their commit order. Positions come from the one head
row under its lock, so they have no gaps and no order of commits can hide an entry from a reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gathering.events.v1 import event_pb2
from gathering.events.v1.event_log_service_pb2 import TailResponse
from gathering_mesh.idempotency import Finished
from gathering_mesh.log_rows import Position, frame_of, lock_head
from gathering_mesh.statements import Statements

# One statement: all aggregates are locked, in the order of their ids, before the first sequence
# number is drawn (the join and the sort need the whole of `bumped`).
_APPEND = """
written as (
    select * from unnest($2::text[], $3::bytea[]) with ordinality as w (aggregate_id, event, n)),
bumped as (
    insert into aggregate as a (tenant_id, id, version)
    select $1, aggregate_id, count(*) from written group by aggregate_id order by aggregate_id
    on conflict (tenant_id, id) do update set version = a.version + excluded.version
    returning a.id, a.version)
insert into outbox (tenant_id, aggregate_id, version, event)
select $1, w.aggregate_id,
    b.version + 1 - row_number() over (partition by w.aggregate_id order by w.n desc), w.event
from written w join bumped b on b.id = w.aggregate_id order by w.n
"""
# The end of a mutation as well, in one way to the database and back: `idempotency.finish`.
_FINISHED = """
finished as (
    update idempotency set result = $7
    where tenant_id = $1 and principal = $4 and method = $5 and request_id = $6)
"""
# A statement of its own after the lock of the head: its snapshot has to be younger than the lock.
_MOVE = """
with moved as (
    delete from outbox where seq in (select seq from outbox order by seq limit $2)
    returning seq, tenant_id, aggregate_id, version, event, written_at),
placed as (
    insert into log (position, tenant_id, aggregate_id, version, event, written_at)
    select $1 + row_number() over (order by seq), tenant_id, aggregate_id, version, event,
        written_at
    from moved returning position, tenant_id, version, event, written_at),
advanced as (
    update log_head set position = $1 + (select count(*) from placed)
    where exists (select from placed))
select * from placed order by position
"""


class Moved(NamedTuple):
    """What was moved: the place of the log before it, and the entries, as frames to send."""

    after: Position
    frames: Sequence[TailResponse]


async def append(
    tx: Statements, tenant: str, events: Sequence[event_pb2.Event], finished: Finished | None = None
) -> None:
    """Write the events of a transaction, just before its commit; `finished`: of a mutation."""
    written = ([event.aggregate_id for event in events], [e.SerializeToString() for e in events])
    if finished is None:
        await tx.run(f"with {_APPEND}", tenant, *written)
    else:
        _, *key = finished.key
        await tx.run(f"with {_FINISHED}, {_APPEND}", tenant, *written, *key, finished.result)


async def is_empty(tx: Statements) -> bool:
    """Tell whether nothing waits to be moved, without taking a lock."""
    return not await tx.fetch_value("select exists (select from outbox)")


async def move(tx: Statements, limit: int) -> Moved:
    """Move the oldest committed events to the log (as the system role)."""
    after = await lock_head(tx)
    rows = await tx.fetch(_MOVE, after.position, limit)
    return Moved(after, [frame_of(row, after.epoch) for row in rows])
