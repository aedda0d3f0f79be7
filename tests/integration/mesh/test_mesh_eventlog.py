"""The log of one process: order, places, frames, filters, retention, epochs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta

import pytest

from gathering.events.v1.event_log_service_pb2 import LogGap, TailResponse
from gathering_mesh import log_rows
from gathering_mesh.errors import Unavailable
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.eventlog import EventLog, EventLogSettings
from gathering_mesh.log_rows import Position
from gathering_mesh.postgres import Database
from tests.integration.mesh.conftest import database_settings
from tests.support.happenings import MemoryForgotten, MemorySuperseded
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

BEGINNING = Position("", 0)


@contextlib.asynccontextmanager
async def running(db: Database, **settings: object) -> AsyncIterator[EventLog]:
    log = EventLog(db, "probe", EventLogSettings(**{"heartbeat": 0.2, **settings}))  # type: ignore[arg-type]
    await log.start()
    task = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.wait({task})


async def emit(db: Database, *aggregates: str, tenant: str = "ten_a") -> None:
    async with db.transaction(tenant) as tx:
        for aggregate in aggregates:
            tx.emit(aggregate, MemoryForgotten(aggregate))


async def take(tail: AsyncGenerator[TailResponse, None], until: int) -> list[TailResponse]:
    """Return the frames of a tail up to the head at a position."""
    frames = []
    async with asyncio.timeout(10), aclosing(tail):
        async for frame in tail:
            frames.append(frame)
            if frame.HasField("head") and frame.head.position.position >= until:
                break
    return frames


async def seen(tail: AsyncGenerator[TailResponse, None], until: int) -> list[int]:
    """Return the positions of the entries of a tail up to a head."""
    frames = await take(tail, until)
    return [frame.entry.event.position for frame in frames if frame.HasField("entry")]


async def next_frame(tail: AsyncGenerator[TailResponse, None], kind: str) -> TailResponse:
    """Return the next frame of a kind."""
    async with asyncio.timeout(10):
        async for frame in tail:
            if frame.HasField(kind):  # type: ignore[arg-type]
                return frame
    raise AssertionError("the tail ended")


async def logged(db: Database, count: int) -> None:
    async def all_moved() -> bool:
        async with db.system() as tx:
            return bool(await tx.fetch_value("select position = $1 from log_head", count))

    await eventually(all_moved)


async def test_events_are_placed_without_gaps_and_reach_a_reader_in_milliseconds(
    db: Database,
) -> None:
    async with running(db, poll=60.0) as log:
        delays = []
        async with aclosing(log.tail()) as tail:
            for n in range(20):
                await emit(db, f"a{n}")
                begun = time.monotonic()
                async for frame in tail:
                    if frame.HasField("entry"):
                        break
                delays.append(time.monotonic() - begun)
                assert frame.entry.event.position == n + 1
    assert sorted(delays)[10] < 0.1  # polling would take seconds


async def test_entry_tells_where_it_stands_and_what_led_to_it(db: Database) -> None:
    async with running(db) as log:
        await emit(db, "x", "x")
        await logged(db, 2)
        frames = await take(log.tail(BEGINNING), 2)
    first, second = (frame.entry for frame in frames[:2])
    assert (first.tenant_id, first.event.source) == ("ten_a", "probe")
    assert (first.event.version, second.event.version) == (1, 2)
    assert first.event.epoch == second.event.epoch != ""
    assert abs(first.event.commit_time.seconds - time.time()) < 60
    assert frames[2].head.position.epoch == first.event.epoch


async def test_tail_without_a_position_begins_at_the_moment_of_its_making(db: Database) -> None:
    async with running(db) as log:
        await emit(db, "old")
        await logged(db, 1)
        await eventually(lambda: at_head(log, 1))
        tail = log.tail()
        await emit(db, "new")
        assert await seen(tail, 2) == [2]


async def at_head(log: EventLog, position: int) -> bool:
    return log._ring.head == position


async def test_resumed_reader_misses_and_repeats_nothing(db: Database) -> None:
    async with running(db) as log:
        for n in range(10):
            await emit(db, f"a{n}")
        await logged(db, 10)
        found: list[int] = []
        for until in (3, 7, 10):
            at = Position("", found[-1] if found else 0)
            async with aclosing(log.tail(at)) as tail:
                async for frame in tail:
                    if frame.HasField("entry"):
                        found.append(frame.entry.event.position)
                    if found and found[-1] == until:
                        break
    assert found == list(range(1, 11))


async def test_reader_behind_the_ring_reads_the_table(db: Database) -> None:
    async with running(db, ring_size=4, page=3) as log:
        for n in range(30):
            await emit(db, f"a{n}")
        await logged(db, 30)
        assert await seen(log.tail(BEGINNING), 30) == list(range(1, 31))
        assert await seen(log.tail(Position("", 20)), 30) == list(range(21, 31))


async def test_slow_reader_gets_all_while_others_are_not_held_up(db: Database) -> None:
    async with running(db, ring_size=8, page=5) as log:
        slow = log.tail(BEGINNING)
        await emit(db, "a")
        first = await next_frame(slow, "entry")
        for n in range(50):
            await emit(db, f"a{n}")
        await logged(db, 51)
        assert len(await seen(log.tail(BEGINNING), 51)) == 51
        rest = await seen(slow, 51)
    assert [first.entry.event.position, *rest] == list(range(1, 52))


async def test_readers_filter_decides_what_is_sent_and_heads_tell_of_the_rest(
    db: Database,
) -> None:
    async with running(db, heartbeat=0.05) as log:
        await emit(db, "a", tenant="ten_a")
        await emit(db, "b", tenant="ten_b")
        async with db.transaction("ten_a") as tx:
            tx.emit("c", MemorySuperseded("m1", "m2"), audience=["usr_1"])
        await logged(db, 3)
        for only, expected in (
            (EventFilter(), [1, 2, 3]),
            (EventFilter(tenant="ten_a"), [1, 3]),
            (EventFilter(tenant="ten_b"), [2]),
            (EventFilter(tenant="ten_c"), []),
            (EventFilter(tenant="ten_a", user="usr_2"), [1]),
            (EventFilter(types=frozenset({"memory_superseded"})), [3]),
            (EventFilter(subjects=frozenset({"m2"})), [3]),
        ):
            assert await seen(log.tail(BEGINNING, only=only), 3) == expected


async def test_head_is_repeated_while_there_is_nothing_to_send(db: Database) -> None:
    async with running(db, heartbeat=0.02) as log, aclosing(log.tail()) as tail:
        async with asyncio.timeout(5):
            frames = [await anext(tail) for _ in range(3)]
    assert all(frame.HasField("head") for frame in frames)


async def test_watcher_gets_entries_alone(db: Database) -> None:
    async with running(db, heartbeat=0.01) as log:
        only = EventFilter(tenant="ten_a", subjects=frozenset({"x"}))
        async with aclosing(log.entries(only)) as changes:
            await emit(db, "y")
            await emit(db, "x")
            entry = await anext(changes)
    assert entry.event.aggregate_id == "x"


async def test_cursor_older_than_the_retention_gets_a_gap(db: Database) -> None:
    async with running(db, ring_size=2, retention=timedelta(milliseconds=1), sweep=0.02) as log:
        for n in range(10):
            await emit(db, f"a{n}")
        await logged(db, 10)
        await eventually(lambda: is_empty(db))
        frames = await take(log.tail(Position("", 3)), 10)
    gap = frames[0].gap
    assert gap.reason == LogGap.REASON_RETENTION
    assert (gap.asked.position, gap.resume.position) == (3, 10)


async def is_empty(db: Database) -> bool:
    async with db.system() as tx:
        return bool(await tx.fetch_value("select not exists (select from log)"))


async def test_retention_keeps_what_is_young(db: Database) -> None:
    async with running(db):
        await emit(db, "x")
        await logged(db, 1)
    async with db.system() as tx:
        assert await log_rows.trim(tx, timedelta(hours=1)) is False
        assert await tx.fetch_value("select count(*) from log") == 1


async def test_reader_ahead_of_a_restored_log_gets_a_gap_and_then_what_is_new(
    db: Database,
) -> None:
    async with running(db, poll=0.05) as log:
        for n in range(5):
            await emit(db, f"a{n}")
        await logged(db, 5)
        old = (await take(log.tail(BEGINNING), 5))[0].entry.event.epoch
        live = log.tail()
        await anext(live)  # its head
        async with db.system() as tx:  # what a restore of an older backup does
            await tx.run("delete from log where position > 2")
            await tx.run("update log_head set position = 2")
            new = await log_rows.begin_epoch(tx)
        await emit(db, "new")
        for tail in (log.tail(Position(old, 5)), live):
            gap = (await next_frame(tail, "gap")).gap
            assert gap.reason == LogGap.REASON_EPOCH
            assert (gap.asked.epoch, gap.asked.position) == (old, 5)
            assert (gap.resume.epoch, gap.resume.position) == (new, 2)
            assert (await next_frame(tail, "entry")).entry.event.position == 3
            await tail.aclose()
        frames = await take(log.tail(Position(old, 1)), 3)
        assert frames[0].gap.resume.position == 1  # before the restore: nothing is missing
        assert [f.entry.event.position for f in frames if f.HasField("entry")] == [2, 3]


async def test_position_that_never_was_is_a_gap(db: Database) -> None:
    async with running(db) as log:
        await emit(db, "x")
        await logged(db, 1)
        frames = await take(log.tail(Position("", 99)), 1)
    assert frames[0].gap.resume.position == 1


async def test_watcher_is_told_to_come_again_when_the_log_is_cut(db: Database) -> None:
    async with running(db, poll=0.05) as log:
        await emit(db, "x")
        await logged(db, 1)
        await eventually(lambda: at_head(log, 1))
        changes = log.entries(EventFilter())
        async with db.system() as tx:
            await log_rows.begin_epoch(tx)
        with pytest.raises(Unavailable):
            async with asyncio.timeout(5):
                await anext(changes)


async def test_other_replica_hears_of_events_at_once(db: Database, probe: TestDatabase) -> None:
    async with (
        Database.open(database_settings(probe), schema="probe") as other_db,
        running(db),
        running(other_db, poll=60.0) as other,
    ):
        await eventually(lambda: is_listening(other))
        async with aclosing(other.entries(EventFilter())) as changes:
            await emit(db, "x")
            async with asyncio.timeout(5):
                assert (await anext(changes)).event.position == 1


async def is_listening(log: EventLog) -> bool:
    return log._listener._connection is not None


async def test_events_of_a_replica_that_died_are_moved_by_another(
    db: Database, probe: TestDatabase
) -> None:
    await emit(db, "x")  # nobody runs the log here
    async with (
        Database.open(database_settings(probe), schema="probe") as other_db,
        running(other_db, poll=0.05) as other,
    ):
        assert await seen(other.tail(BEGINNING), 1) == [1]


async def test_lost_listener_connects_again(db: Database, probe: TestDatabase) -> None:
    async with running(db) as log:
        await eventually(lambda: is_listening(log))
        first = log._listener._connection
        async with probe.server.admin(probe.name) as admin:
            await admin.execute("select pg_terminate_backend($1)", first.get_server_pid())
        await eventually(lambda: is_other(log, first))


async def is_other(log: EventLog, connection: object) -> bool:
    return log._listener._connection not in {None, connection}
