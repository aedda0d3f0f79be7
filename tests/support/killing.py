"""Replicas of one log, killed while they write, and what has to be true afterwards."""

import asyncio
from collections import defaultdict
from contextlib import aclosing

from gathering.events.v1 import event_pb2
from gathering_mesh.eventlog import EventLog
from gathering_mesh.log_rows import Position, read_page
from gathering_mesh.postgres import Database
from tests.support.postgres import TestDatabase
from tests.support.processes import Replica, start
from tests.support.waiting import eventually


class Reader:
    """Reads the log while it is written, by position alone."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.events: list[tuple[str, event_pb2.Event]] = []

    async def read(self) -> None:
        while True:
            async with self._db.system() as tx:
                page = await read_page(tx, len(self.events), 500)
            for frame in page.frames:
                assert frame.entry.event.position == len(self.events) + 1
                self.events.append((frame.entry.tenant_id, frame.entry.event))
            await asyncio.sleep(0.01)

    async def beyond(self, count: int) -> None:
        async def reached() -> bool:
            return len(self.events) >= count

        await eventually(reached, f"{count} events", seconds=40)


async def kill_and_compare(db: Database, probe: TestDatabase, kills: int, between: int) -> None:
    """Kill one of two replicas again and again, so many events apart; compare what is left."""
    reader = Reader(db)
    reading = asyncio.create_task(reader.read())
    replicas = [await start("writers", probe) for _ in range(2)]
    dead: list[Replica] = []
    try:
        for kill in range(kills):
            await reader.beyond(len(reader.events) + between)
            dead.append(replicas.pop(0))
            await dead[-1].end()
            if kill < kills - 1:
                replicas.append(await start("writers", probe))
        await reader.beyond(len(reader.events) + between)
    finally:
        for replica in replicas:
            await replica.end()
    await move_the_rest(db)
    committed = await committed_counts(db)
    await reader.beyond(sum(committed.values()))
    reading.cancel()
    check(reader.events, committed, [*dead, *replicas])


async def move_the_rest(db: Database) -> None:
    """Move what the last one killed left in the outbox, as the next replica does."""
    log = EventLog(db, "probe")
    running = asyncio.create_task(log.run())
    async with aclosing(log.tail(Position("", 0))) as tail:
        async for frame in tail:
            if frame.HasField("head"):
                break
    await eventually(lambda: is_outbox_empty(db))
    running.cancel()
    await asyncio.wait({running})


async def is_outbox_empty(db: Database) -> bool:
    async with db.system() as tx:
        return bool(await tx.fetch_value("select not exists (select from outbox)"))


async def committed_counts(db: Database) -> dict[tuple[str, str], int]:
    """Return how many events each aggregate has had, as its own state says."""
    counts = {}
    for tenant in ("ten_a", "ten_b"):
        async with db.transaction(tenant) as tx:
            for row in await tx.fetch("select id, n from thing"):
                counts[tenant, row["id"]] = row["n"]
    return counts


def check(
    events: list[tuple[str, event_pb2.Event]],
    committed: dict[tuple[str, str], int],
    replicas: list[Replica],
) -> None:
    versions = defaultdict(list)
    for tenant, event in events:
        versions[tenant, event.aggregate_id].append(event.version)
    assert {key: len(found) for key, found in versions.items()} == committed
    for found in versions.values():
        assert found == list(range(1, len(found) + 1))  # in the order of their commits
    logged = [event.memory_forgotten.memory_id for _, event in events]
    assert len(set(logged)) == len(logged)
    acknowledged = {one for replica in replicas for line in replica.lines for one in line.split()}
    assert acknowledged
    assert acknowledged <= set(logged)
