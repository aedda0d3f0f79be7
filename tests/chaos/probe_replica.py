"""A replica of the service `probe` in which one mechanism may be switched off: a mutant.

`python -m tests.chaos.probe_replica ROLE OPTIONS`, as `tests.support.replica`; the option `mutant`
names the mechanism. The replacements are here and not in the code that they replace, so that nobody
can switch anything off where it counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Callable
from typing import Any

from gathering_mesh import idempotency, outbox, work_rows
from gathering_mesh.call import Call, Principal, RequestKey
from gathering_mesh.consumer_rows import ConsumerRows
from gathering_mesh.errors import DomainError
from gathering_mesh.eventlog import EventLog
from gathering_mesh.postgres import Database
from gathering_mesh.work import Lease, WorkLoop, WorkSettings
from tests.support import replica
from tests.support.happenings import MemoryForgotten, TaskCreated
from tests.support.replica import main, say

# The next version by reading instead of locking: what two writers read is the same.
_UNLOCKED_APPEND = """
written as (
    select * from unnest($2::text[], $3::bytea[]) with ordinality as w (aggregate_id, event, n)),
seen as (
    select w.aggregate_id, count(*) as n, coalesce((
        select version from aggregate a
        where a.tenant_id = $1 and a.id = w.aggregate_id), 0) as version
    from written w group by w.aggregate_id),
bumped as (
    insert into aggregate as a (tenant_id, id, version)
    select $1, aggregate_id, version + n from seen order by aggregate_id
    on conflict (tenant_id, id) do update set version = excluded.version returning 1)
insert into outbox (tenant_id, aggregate_id, version, event)
select $1, w.aggregate_id,
    s.version + row_number() over (partition by w.aggregate_id order by w.n), w.event
from written w join seen s using (aggregate_id), (select count(*) from bumped) b order by w.n
"""


def _without_fence() -> None:
    async def lock(*_: Any) -> bool:
        return True

    async def done(tx: Any, key: work_rows.Key) -> bool:
        await tx.run("delete from work where tenant_id = $1 and kind = $2 and id = $3", *key[:3])
        return True

    work_rows.lock, work_rows.done = lock, done  # type: ignore[assignment] # the mutation


def _without_version() -> None:
    outbox._APPEND = _UNLOCKED_APPEND


def _without_idempotency() -> None:
    async def claim(*_: Any) -> None:
        return None

    async def finish(*_: Any) -> None:
        return None

    idempotency.claim, idempotency.finish = claim, finish  # type: ignore[assignment] # the mutation


def _without_position() -> None:
    async def advance(*_: Any) -> None:
        return None

    ConsumerRows.advance = advance  # type: ignore[assignment] # the mutation


MUTANTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "fence": _without_fence,
    "version": _without_version,
    "idempotency": _without_idempotency,
    "position": _without_position,
}


async def tellers(db: Database, _options: dict[str, Any]) -> None:
    """Tell of the same few aggregates by many tasks, with no lock of their own between them."""

    async def tell() -> None:
        while True:
            async with db.transaction("ten_a") as tx:
                for aggregate in ("a", "b"):
                    tx.emit(aggregate, MemoryForgotten(uuid.uuid4().hex))
            say("told")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(EventLog(db, "probe").run())
        for _ in range(replica.WRITERS):
            tasks.create_task(tell())


async def asker(db: Database, options: dict[str, Any]) -> None:
    """Ask for the same things over and over, under the same request ids, until each is answered."""
    moving = asyncio.create_task(EventLog(db, "probe").run())
    for name in options["requests"]:
        await _asked(db, name)
    say("asked")
    await moving


async def _asked(db: Database, name: str) -> None:
    principal = Principal("ten_a", "usr_1", frozenset(), "member")
    call = Call(principal, "Make", request_key=RequestKey("Make", name, name.encode()))
    try:
        async with db.mutation(call) as tx:
            if tx.replay is None:
                tx.result = f"tsk_{uuid.uuid4().hex}"
                tx.emit(tx.result, TaskCreated(tx.result))
    except DomainError as error:
        say(f"refused {name} {error.reason}")


async def worker(db: Database, options: dict[str, Any]) -> None:
    """Hold work, then tell that it was done; a zombie does not listen when it is cancelled."""

    async def handle(lease: Lease) -> None:
        say(f"began {lease.id}")
        try:
            await asyncio.sleep(options["seconds"])
        except asyncio.CancelledError:
            say(f"cancelled {lease.id}")
        async with lease.transaction() as tx:
            tx.emit(lease.id, MemoryForgotten(lease.id))
            await lease.done(tx)
        say(f"ended {lease.id}")

    settings = WorkSettings(lease=options["lease"], poll=0.1, drain=0.1)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(EventLog(db, "probe").run())
        tasks.create_task(
            WorkLoop(db, {"hold": handle}, settings, replica=options["replica"]).run()
        )


if __name__ == "__main__":
    told = json.loads(sys.argv[2])
    MUTANTS[told["mutant"]]()
    replica.ROLES.update({"asker": asker, "tellers": tellers, "worker": worker})
    asyncio.run(main(sys.argv[1], told))
