"""Entries that are gone, by retention or by a restore: said, never passed over in silence."""

import asyncio
from datetime import timedelta

import pytest

from gathering.events.v1.event_log_service_pb2 import LogGap
from gathering_mesh import log_rows
from gathering_mesh.errors import Unavailable
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.log_rows import Position
from gathering_mesh.postgres import Database
from tests.support.logs import BEGINNING, at_head, emit, logged, next_frame, running, take
from tests.support.waiting import eventually


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
