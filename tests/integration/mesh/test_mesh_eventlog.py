"""The log of one process: order, places, frames, filters, retention, epochs."""

import asyncio
import time
from contextlib import aclosing

import asyncpg

from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.eventlog import EventLog
from gathering_mesh.log_rows import Position
from gathering_mesh.postgres import Database
from tests.integration.mesh.conftest import database_settings
from tests.support.happenings import MemorySuperseded
from tests.support.logs import BEGINNING, at_head, emit, logged, next_frame, running, seen, take
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually


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


async def test_frozen_holder_of_the_heads_lock_stops_the_log_for_seconds_only(
    db: Database, probe: TestDatabase
) -> None:
    frozen = await asyncpg.connect(probe.system("probe"))
    await frozen.execute("begin")
    await frozen.execute("select from log_head for update")
    async with running(db) as log:
        tail = log.tail(BEGINNING)
        await emit(db, "x")
        assert (await next_frame(tail, "entry")).entry.event.position == 1
    frozen.terminate()


async def test_lost_listener_connects_again(db: Database, probe: TestDatabase) -> None:
    async with running(db) as log:
        await eventually(lambda: is_listening(log))
        first = log._listener._connection
        async with probe.server.admin(probe.name) as admin:
            await admin.execute("select pg_terminate_backend($1)", first.get_server_pid())
        await eventually(lambda: is_other(log, first))


async def is_other(log: EventLog, connection: object) -> bool:
    return log._listener._connection not in {None, connection}
