"""Reactions: each event's effect once, parked aggregates, gaps; over a real stream."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering.events.v1 import event_pb2
from gathering_mesh import log_rows
from gathering_mesh.consumer import Consumer, ConsumerSettings
from gathering_mesh.errors import NotFound
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.integration.mesh.conftest import database_settings
from tests.support.happenings import MemoryForgotten, MemorySuperseded
from tests.support.postgres import TestDatabase
from tests.support.probe import Authority, headers
from tests.support.processes import start
from tests.support.replica import count
from tests.support.waiting import eventually

QUICK = ConsumerSettings(attempts=3, retry_first=0.01, retry_most=0.02, parked_retry=60.0)
MANY = replace(QUICK, at_once=40)


class Source:
    """A running log with its service, and a way to it as another service."""

    def __init__(self, db: Database, target: str, channel: grpc.aio.Channel, metadata: Any) -> None:
        self.db = db
        self.target = target
        self.channel = channel
        self.metadata = metadata

    def consumer(self, db: Database, handler: Any, **options: Any) -> Consumer:
        return Consumer(
            db,
            "counter",
            "probe",
            self.channel,
            handler,
            {"memory_forgotten"},
            outgoing=lambda: {"metadata": self.metadata},
            **{"settings": QUICK, **options},
        )


@pytest.fixture
async def source(db: Database) -> AsyncIterator[Source]:
    log = EventLog(db, "probe", EventLogSettings(heartbeat=0.1, poll=0.1))
    await log.start()
    running = asyncio.create_task(log.run())
    authority = Authority()
    server = GrpcServer(ServerSettings(), authority.authenticator())
    descriptor = pb.DESCRIPTOR.services_by_name["EventLogService"]
    server.add(descriptor, EventLogServicer(log))
    await server.start()
    target = f"127.0.0.1:{server.port}"
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            yield Source(db, target, channel, headers(actor=authority.actor()))
    finally:
        await server.stop(0.1)
        running.cancel()
        await asyncio.wait({running})


@asynccontextmanager
async def consuming(*consumers: Consumer) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(consumer.run()) for consumer in consumers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def emit(db: Database, *memories: str, aggregate: str = "", tenant: str = "ten_a") -> None:
    async with db.transaction(tenant) as tx:
        for memory in memories:
            tx.emit(aggregate or memory, MemoryForgotten(memory))


async def effects(db: Database, tenant: str = "ten_a") -> dict[str, int]:
    async with db.transaction(tenant) as tx:
        return {row["id"]: row["n"] for row in await tx.fetch("select id, n from thing")}


async def has(db: Database, expected: dict[str, int], tenant: str = "ten_a") -> None:
    async def reached() -> bool:
        return await effects(db, tenant) == expected

    await eventually(reached, str(expected))


async def stand(db: Database) -> dict[str, Any]:
    async with db.system() as tx:
        row = await tx.fetch_one("select * from consumer")
    return dict(row or {})


async def parked(db: Database) -> list[tuple[str, str]]:
    async with db.system() as tx:
        rows = await tx.fetch("select aggregate_id, error from parked order by seq")
    return [(row["aggregate_id"], row["error"]) for row in rows]


async def counting(tx: Transaction, event: event_pb2.Event) -> None:
    await count(tx, event.memory_forgotten.memory_id)


async def test_effects_are_in_the_events_tenant_from_the_beginning_of_the_log(
    source: Source,
) -> None:
    await emit(source.db, "m1")
    await emit(source.db, "m2", tenant="ten_b")
    async with consuming(source.consumer(source.db, counting)):
        await has(source.db, {"m1": 1})
        await has(source.db, {"m2": 1}, "ten_b")
        await emit(source.db, "m3")
        await has(source.db, {"m1": 1, "m3": 1})


async def test_reaction_names_its_cause(source: Source) -> None:
    async def react(tx: Transaction, event: event_pb2.Event) -> None:
        tx.emit("y", MemorySuperseded("m1", "m2"))
        await counting(tx, event)

    await emit(source.db, "m1")
    async with consuming(source.consumer(source.db, react)):
        await has(source.db, {"m1": 1})
        async with source.db.transaction("ten_a") as tx:
            await eventually(lambda: second_is_logged(tx))
            stored = await tx.fetch_value("select event from log where position = 2")
    cause = event_pb2.Event.FromString(stored).cause
    assert (cause.event_source, cause.event_position) == ("probe", 1)


async def second_is_logged(tx: Transaction) -> bool:
    return bool(await tx.fetch_value("select exists (select from log where position = 2)"))


async def test_two_replicas_apply_each_event_once(source: Source, probe: TestDatabase) -> None:
    async with Database.open(database_settings(probe), schema="probe") as other:
        consumers = (source.consumer(source.db, counting), source.consumer(other, counting))
        async with consuming(*consumers):
            for n in range(50):
                await emit(source.db, f"m{n}")
            await has(source.db, {f"m{n}": 1 for n in range(50)})


async def test_restarted_consumer_goes_on_where_it_stood(source: Source) -> None:
    await emit(source.db, "m1")
    async with consuming(source.consumer(source.db, counting)):
        await has(source.db, {"m1": 1})
    await emit(source.db, "m2")
    async with consuming(source.consumer(source.db, counting)):
        await has(source.db, {"m1": 1, "m2": 1})


async def test_consumer_moves_over_what_is_not_for_it(source: Source) -> None:
    async with source.db.transaction("ten_a") as tx:
        for _ in range(5):
            tx.emit("x", MemorySuperseded("m1", "m2"))

    async def passed() -> bool:
        return (await stand(source.db)).get("position") == 5

    async with consuming(source.consumer(source.db, counting)):
        await eventually(passed)


async def test_consumer_moves_over_what_does_not_concern_it(source: Source) -> None:
    def concerns(event: event_pb2.Event) -> bool:
        return event.memory_forgotten.memory_id == "m3"

    async def passed(position: int) -> bool:
        return (await stand(source.db)).get("position") == position

    await emit(source.db, "m1", "m2", "m3")
    noting = replace(QUICK, pass_seconds=0.0)
    async with consuming(source.consumer(source.db, counting, concerns=concerns, settings=noting)):
        await has(source.db, {"m3": 1})
        await emit(source.db, "m4")
        await eventually(lambda: passed(4))
    assert await effects(source.db) == {"m3": 1}


async def test_effects_that_a_crash_of_the_database_took_back_are_brought_about_again(
    source: Source,
) -> None:
    lazily = replace(MANY, durable=False, gather=0.01)
    async with consuming(source.consumer(source.db, counting, settings=lazily)):
        await emit(source.db, "m1")
        await has(source.db, {"m1": 1})
        await emit(source.db, "m2")
        await has(source.db, {"m1": 1, "m2": 1})
        async with source.db.transaction("ten_a") as tx:  # as a crash does: effect and position
            await tx.run("delete from thing where id = 'm2'")
            await tx.run("update consumer set position = 1")
        await emit(source.db, "m3")
        await has(source.db, {"m1": 1, "m2": 1, "m3": 1})


async def test_handler_that_fails_at_first_has_its_effect_once(source: Source) -> None:
    failures = iter((1, 2))

    async def fail_twice(tx: Transaction, event: event_pb2.Event) -> None:
        await counting(tx, event)
        if next(failures, None):
            raise NotFound("not yet")

    await emit(source.db, "m1")
    async with consuming(source.consumer(source.db, fail_twice)):
        await has(source.db, {"m1": 1})
    assert await parked(source.db) == []


async def test_handler_that_keeps_failing_parks_its_aggregate_and_no_other(
    source: Source,
) -> None:
    broken = True

    async def handle(tx: Transaction, event: event_pb2.Event) -> None:
        if broken and event.memory_forgotten.memory_id == "bad1":
            raise NotFound("no such memory")
        await counting(tx, event)

    consumer = source.consumer(source.db, handle)
    async with consuming(consumer):
        await emit(source.db, "bad1", aggregate="bad")
        await emit(source.db, "bad2", aggregate="bad")
        await emit(source.db, "good")
        await has(source.db, {"good": 1})
        assert await parked(source.db) == [
            ("bad", "NotFound: no such memory"),
            ("bad", "waits for an earlier event"),
        ]
        assert await consumer.retry_parked() == 0
        broken = False
        assert await consumer.retry_parked("another") == 0
        assert await consumer.retry_parked("bad") == 2
        await has(source.db, {"good": 1, "bad1": 1, "bad2": 1})
        await emit(source.db, "bad3", aggregate="bad")
        await has(source.db, {"good": 1, "bad1": 1, "bad2": 1, "bad3": 1})
    assert await parked(source.db) == []


async def xid(tx: Transaction) -> int:
    return int(await tx.fetch_value("select pg_current_xact_id()::text"))


async def test_waiting_events_of_a_tenant_are_handled_in_few_transactions(source: Source) -> None:
    transactions: dict[int, int] = {}

    async def handle(tx: Transaction, event: event_pb2.Event) -> None:
        number = await xid(tx)
        transactions[number] = transactions.get(number, 0) + 1
        await counting(tx, event)

    for n in range(5):
        await emit(source.db, *(f"m{n}_{k}" for k in range(20)))
    expected = {f"m{n}_{k}": 1 for n in range(5) for k in range(20)}
    consumers = [source.consumer(source.db, handle, settings=MANY) for _ in range(2)]
    async with consuming(*consumers):
        await has(source.db, expected)
    assert sum(transactions.values()) == 100
    assert len(transactions) < 50
    assert (await stand(source.db))["position"] == 100


async def test_one_that_fails_among_many_parks_its_aggregate_alone(source: Source) -> None:
    async def handle(tx: Transaction, event: event_pb2.Event) -> None:
        await counting(tx, event)
        if event.memory_forgotten.memory_id == "bad1":
            raise NotFound("no such memory")

    await emit(source.db, "m1", "m2")
    await emit(source.db, "bad1", "bad2", aggregate="bad")
    await emit(source.db, "m3", "m4")
    await emit(source.db, "m5", tenant="ten_b")
    async with consuming(source.consumer(source.db, handle, settings=MANY)):
        await has(source.db, {"m1": 1, "m2": 1, "m3": 1, "m4": 1})
        await has(source.db, {"m5": 1}, "ten_b")
    assert await parked(source.db) == [
        ("bad", "NotFound: no such memory"),
        ("bad", "waits for an earlier event"),
    ]


async def test_several_are_handled_together_and_one_by_one_where_that_fails(source: Source) -> None:
    pages: list[int] = []

    async def together(tx: Transaction, events: Sequence[event_pb2.Event]) -> None:
        pages.append(len(events))
        for event in events:
            await handle(tx, event)

    async def handle(tx: Transaction, event: event_pb2.Event) -> None:
        await counting(tx, event)
        if event.memory_forgotten.memory_id == "bad1":
            raise NotFound("no such memory")

    await emit(source.db, *(f"m{n}" for n in range(30)))
    consumer = source.consumer(source.db, handle, together=together, settings=MANY)
    async with consuming(consumer):
        await has(source.db, {f"m{n}": 1 for n in range(30)})
        assert sum(pages) >= 29  # a first one may have come alone
        await emit(source.db, "bad1", "bad2", aggregate="bad")
        await emit(source.db, "good")
        await has(source.db, {"good": 1, **{f"m{n}": 1 for n in range(30)}})
    assert [aggregate for aggregate, _ in await parked(source.db)] == ["bad", "bad"]


async def test_what_another_replica_parked_meanwhile_is_not_overtaken(
    source: Source, probe: TestDatabase
) -> None:
    consumer = source.consumer(source.db, counting, settings=MANY)
    async with consuming(consumer):
        await emit(source.db, "m0")
        await has(source.db, {"m0": 1})
        other = await asyncpg.connect(probe.admin)
        async with other.transaction():  # the other replica, in the middle of its effect
            await other.execute("update probe.consumer set position = position + 1")
            await emit(source.db, "bad1", "bad2", aggregate="bad")
            await eventually(probe.lock_waits, "the consumer waits")
            await other.execute(
                "insert into probe.parked"
                " (tenant_id, name, source, aggregate_id, event, error, attempt)"
                " select tenant_id, 'counter', 'probe', 'bad', event, 'parked', 1"
                " from probe.log where position = 2"
            )
        await other.close()
        await eventually(partial(_stands_at, source.db, 3), "the consumer went on")
    assert [error for _, error in await parked(source.db)] == [
        "parked", "waits for an earlier event",
    ]  # fmt: skip
    assert await effects(source.db) == {"m0": 1}


async def _stands_at(db: Database, position: int) -> bool:
    return bool((await stand(db))["position"] == position)


async def test_gap_is_stored_and_told_before_the_consumer_goes_on(source: Source) -> None:
    told: list[pb.LogGap] = []

    async def on_gap(gap: pb.LogGap) -> None:
        told.append(gap)

    await emit(source.db, "m1", "m2", "m3")
    async with consuming(source.consumer(source.db, counting)):
        await has(source.db, {"m1": 1, "m2": 1, "m3": 1})
    async with source.db.system() as tx:  # a restore to the time of the first event
        await tx.run("delete from log where position > 1")
        await tx.run("update log_head set position = 1")
        await log_rows.begin_epoch(tx)
    await emit(source.db, "m4")
    async with consuming(source.consumer(source.db, counting, on_gap=on_gap)):
        await has(source.db, {"m1": 1, "m2": 1, "m3": 1, "m4": 1})
    state = await stand(source.db)
    assert (state["gap_count"], state["position"]) == (1, 2)
    assert state["last_gap"].startswith("REASON_EPOCH: ")
    assert [gap.resume.position for gap in told] == [1]


async def test_consumers_killed_at_any_point_apply_each_event_once(
    source: Source, probe: TestDatabase
) -> None:
    events = [f"m{n}" for n in range(300)]
    expected = {f"seen {one}": 1 for one in events}
    options = {"target": source.target, "metadata": source.metadata, "dies": 0.02}
    replicas = [await start("consumer", probe, **options) for _ in range(2)]
    try:
        for first in range(0, len(events), 20):
            await emit(source.db, *events[first : first + 20])

        async def all_done() -> bool:
            return len(await effects(source.db)) == len(events)

        while not await all_done():
            for n, one in enumerate(replicas):
                if one.has_ended:
                    replicas[n] = await start("consumer", probe, **options)
            await asyncio.sleep(0.05)
    finally:
        for one in replicas:
            await one.end()
    assert await effects(source.db) == expected
    async with source.db.transaction("ten_a") as tx:
        reactions = await tx.fetch_value("select version from aggregate where id = 'reaction'")
    assert reactions == len(events)
