"""A mesh with one mechanism switched off is caught by the checker; the same with it is not.

The attacks are those that the mechanism is for: a frozen worker that wakes up, writers of one
aggregate at once, a caller who asks again, a consumer that is killed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering_mesh.eventlog import EventLog, EventLogServicer
from gathering_mesh.postgres import Database
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.chaos import checker, invariants_mesh
from tests.chaos.arming import Faults
from tests.chaos.world import World, read
from tests.integration.mesh.conftest import db, probe
from tests.support.happenings import MemoryForgotten
from tests.support.killing import move_the_rest
from tests.support.postgres import TestDatabase
from tests.support.probe import Authority, headers
from tests.support.processes import ROOT, Replica
from tests.support.waiting import eventually
from tests.support.working import schedule

__all__ = ["db", "probe"]  # fixtures
LEASE = 1.0


def work_has_its_effect_once(world: World) -> Iterator[str]:
    """A piece of work that was scheduled once was done once."""
    for (_, name), entries in world.schemas["probe"].histories().items():
        done = [entry for entry in entries if entry.event.type == "memory_forgotten"]
        if name.startswith("work") and len(done) != 1:
            yield f"{name}: {len(done)} times"


@asynccontextmanager
async def running(role: str, probe: TestDatabase, **options: Any) -> AsyncIterator[Replica]:
    """Run a replica and kill it at the end."""
    told = {"url": probe.app("probe"), "system_url": probe.system("probe"), **options}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.probe_replica", role, json.dumps(told),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    replica = Replica(process)
    try:
        yield replica
    finally:
        await replica.end()


async def holder_wakes_up(mutant: str, db: Database, probe: TestDatabase, _: Faults) -> None:
    """Freeze a worker until another has its work, let both go on."""
    await schedule(db, "work")
    options = {"mutant": mutant, "lease": LEASE}
    async with running("worker", probe, replica="zombie", seconds=60.0, **options) as zombie:
        await zombie.says("began work")
        zombie.send(signal.SIGSTOP)
        async with running("worker", probe, replica="heir", seconds=0.0, **options) as heir:
            await heir.says("ended work")
            zombie.send(signal.SIGCONT)
            await zombie.says("cancelled work")
            if mutant:
                await zombie.says("ended work")


async def writers_meet(mutant: str, db: Database, probe: TestDatabase, _: Faults) -> None:
    """Have two processes write the same aggregates at once; kill one of them."""
    if mutant:  # A lock and a constraint are one mechanism: the second says where the first slips.
        await _drop_version_keys(probe)
    async with (
        running("tellers", probe, mutant=mutant) as first,
        running("tellers", probe, mutant=mutant) as second,
    ):
        await wrote(first, 100)
        await wrote(second, 100)
        await first.end()
        await wrote(second, 200)


async def wrote(replica: Replica, count: int) -> None:
    """Wait until a writer has committed so often."""

    async def has_written() -> bool:
        return len(replica.lines) >= count

    await eventually(has_written, f"{count} transactions")


async def died(replica: Replica) -> None:
    """Wait for the end of a process that ends by itself."""

    async def is_dead() -> bool:
        return replica.has_ended

    await eventually(is_dead, "the process ended")


async def _drop_version_keys(probe: TestDatabase) -> None:
    admin = await asyncpg.connect(probe.admin)
    try:
        for table in ("outbox", "log"):
            name = f"{table}_tenant_id_aggregate_id_version_key"
            await admin.execute(f"alter table probe.{table} drop constraint {name}")
    finally:
        await admin.close()


async def caller_asks_again(mutant: str, db: Database, probe: TestDatabase, faults: Faults) -> None:
    """Kill a service between the commit and the answer, so that its caller asks once more."""
    requests = [f"req_{number}" for number in range(5)]
    faults.arm("mutation.committed", "kill", at=3)
    async with running("asker", probe, mutant=mutant, requests=requests) as killed:
        await died(killed)
    async with running("asker", probe, mutant=mutant, requests=requests) as successor:
        await successor.says("asked")


async def consumer_is_killed(
    mutant: str, db: Database, probe: TestDatabase, faults: Faults
) -> None:
    """Kill a consumer after some of its effects, and let another go on."""
    async with source(db) as options:
        for point in ("consumer.handled", "consumer.advanced", "consumer.committed"):
            faults.arm(point, "kill", at=3)
            async with running("consumer", probe, mutant=mutant, **options) as consumer:
                await died(consumer)
        async with db.transaction("ten_a") as tx:
            tx.emit("last", MemoryForgotten("last"))
        async with running("consumer", probe, mutant=mutant, **options):
            await answered(db, "last")


@asynccontextmanager
async def source(db: Database) -> AsyncIterator[dict[str, Any]]:
    """Serve a log with twenty events."""
    log = EventLog(db, "probe")
    await log.start()
    work = asyncio.create_task(log.run())
    authority = Authority()
    server = GrpcServer(ServerSettings(), authority.authenticator())
    server.add(pb.DESCRIPTOR.services_by_name["EventLogService"], EventLogServicer(log))
    await server.start()
    async with db.transaction("ten_a") as tx:
        for number in range(20):
            tx.emit(f"a{number}", MemoryForgotten(f"m{number}"))
    metadata = headers(actor=authority.actor())
    try:
        yield {"target": f"127.0.0.1:{server.port}", "metadata": metadata, "dies": 0.0}
    finally:
        await server.stop(0.1)
        work.cancel()
        await asyncio.wait({work})


Attack = Callable[[str, Database, TestDatabase, Faults], Awaitable[None]]
ATTACKS: dict[str, tuple[Attack, str]] = {
    "fence": (holder_wakes_up, "work_has_its_effect_once"),
    "version": (writers_meet, "versions_are_gapless_and_in_order"),
    "idempotency": (caller_asks_again, "request_has_one_result"),
    "position": (consumer_is_killed, "event_is_answered_once"),
}


async def answered(db: Database, memory: str) -> None:
    """Wait for the effect of an event."""

    async def has_effect() -> bool:
        async with db.transaction("ten_a") as tx:
            found = await tx.fetch_value("select n from thing where id = $1", f"seen {memory}")
        return bool(found)

    await eventually(has_effect, memory)


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    found = Faults(tmp_path)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.mark.parametrize("mechanism", ATTACKS)
@pytest.mark.parametrize("off", [False, True], ids=["on", "off"])
async def test_mechanism_that_is_off_is_named_by_the_checker(
    mechanism: str, off: bool, db: Database, probe: TestDatabase, faults: Faults
) -> None:
    attack, invariant = ATTACKS[mechanism]
    await attack(mechanism if off else "", db, probe, faults)
    await move_the_rest(db)
    world = await read(probe.admin)
    assert world.schemas["probe"].logged
    violated = {
        found.invariant
        for found in checker.check(
            world, (*invariants_mesh.ALWAYS, invariants_mesh.outbox_is_empty, *_of_probe(mechanism))
        )
    }
    assert (invariant in violated) if off else not violated


def _of_probe(mechanism: str) -> tuple[checker.Invariant, ...]:
    return (work_has_its_effect_once,) if mechanism == "fence" else ()
