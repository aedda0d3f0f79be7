"""A replica of the service `probe` as a process of its own, for tests that kill it.

`python -m tests.support.replica ROLE '{"url": ..., "system_url": ..., ...}'`. It prints a line for
what it has seen committed; a line that is there is true, whenever the process was killed.
"""

import asyncio
import json
import os
import random
import signal
import sys
import uuid
from typing import Any

import grpc

from gathering.events.v1 import event_pb2
from gathering_mesh import telemetry
from gathering_mesh.consumer import Consumer, ConsumerSettings
from gathering_mesh.eventlog import EventLog
from gathering_mesh.postgres import Database, DatabaseSettings, Transaction
from gathering_mesh.work import Lease, LeaseLost, WorkLoop, WorkSettings
from tests.support.happenings import MemoryForgotten, MemorySuperseded

CHANCE = random.SystemRandom()
AGGREGATES = [f"a{n}" for n in range(12)]
WRITERS = 8
_COUNT = """
insert into thing (tenant_id, id, name, n) values ($1, $2, $2, $3)
on conflict (tenant_id, id) do update set n = thing.n + excluded.n
"""


def say(what: str) -> None:
    os.write(1, f"{what}\n".encode())


async def count(tx: Transaction, thing: str, n: int = 1) -> None:
    """Add to a number in the database, as a state that an event tells of."""
    await tx.run(_COUNT, tx.tenant, thing, n)


async def write(db: Database) -> None:
    """Change one or two aggregates and tell of it, for ever; say which events are committed."""
    while True:
        emitted = []
        async with db.transaction(CHANCE.choice(("ten_a", "ten_b"))) as tx:
            await tx.run("select pg_current_xact_id()")  # transactions end in another order
            await asyncio.sleep(CHANCE.choice((0, 0.01 * CHANCE.random())))
            for aggregate in sorted(CHANCE.sample(AGGREGATES, CHANCE.randint(1, 2))):
                events = CHANCE.randint(1, 3)
                await count(tx, aggregate, events)
                for _ in range(events):
                    emitted.append(uuid.uuid4().hex)
                    tx.emit(aggregate, MemoryForgotten(emitted[-1]))
            await asyncio.sleep(CHANCE.choice((0, 0.01 * CHANCE.random())))
        say(" ".join(emitted))


async def writers(db: Database, _options: dict[str, Any]) -> None:
    """Write by eight tasks, and move what is written to the log."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(EventLog(db, "probe").run())
        for _ in range(WRITERS):
            tasks.create_task(write(db))


async def consumer(db: Database, options: dict[str, Any]) -> None:
    """Count each event of a log; now and then die in the middle of it."""

    async def handle(tx: Transaction, event: event_pb2.Event) -> None:
        await count(tx, f"seen {event.memory_forgotten.memory_id}")
        tx.emit("reaction", MemorySuperseded(event.memory_forgotten.memory_id, "another"))
        if CHANCE.random() < options["dies"]:
            os.kill(os.getpid(), signal.SIGKILL)

    async with grpc.aio.insecure_channel(options["target"]) as channel:
        await Consumer(
            db,
            "counter",
            "probe",
            channel,
            handle,
            {"memory_forgotten"},
            outgoing=lambda: {"metadata": [tuple(pair) for pair in options["metadata"]]},
            settings=ConsumerSettings(),
        ).run()


async def worker(db: Database, options: dict[str, Any]) -> None:
    """Hold each piece of work for some seconds, then write that it was done."""

    async def handle(lease: Lease) -> None:
        say(f"began {lease.id} {lease.fence} {lease.attempt}")
        try:
            await asyncio.sleep(options["seconds"])
        except asyncio.CancelledError:
            # A zombie that does not listen: the fence has to stop it.
            say(f"cancelled {lease.id}")
        try:
            async with lease.transaction() as tx:
                await count(tx, lease.id)
                await lease.done(tx)
        except LeaseLost:
            say(f"refused {lease.id}")
            raise
        say(f"ended {lease.id}")

    settings = WorkSettings(lease=options["lease"], poll=0.1, drain=0.1)
    await WorkLoop(db, {"hold": handle}, settings, replica=options["replica"]).run()


ROLES = {"writers": writers, "consumer": consumer, "worker": worker}


async def main(role: str, options: dict[str, Any]) -> None:
    telemetry.configure("probe", "info", as_json=True)  # to stderr
    settings = DatabaseSettings(options["url"], options["system_url"], pool_size=WRITERS)
    async with Database.open(settings, schema="probe") as db:
        await ROLES[role](db, options)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
