"""A database that went back to an earlier state: its log has another history, by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gathering.events.v1.event_pb2 import Event
from gathering_mesh.eventlog import EventLog
from gathering_mesh.log_rows import Position
from gathering_mesh.postgres import Database
from tests.integration.mesh.conftest import database_settings
from tests.support.fixtures import NewDatabase
from tests.support.logs import BEGINNING, emit, logged, next_frame, running, take
from tests.support.postgres import Databases, TestDatabase


@asynccontextmanager
async def opened(database: TestDatabase) -> AsyncIterator[Database]:
    async with Database.open(database_settings(database), schema="probe") as db:
        yield db


async def last_event(log: EventLog, position: int) -> Event:
    frames = await take(log.tail(BEGINNING), position)
    return [frame.entry.event for frame in frames if frame.HasField("entry")][-1]


async def test_reader_ahead_of_a_restored_log_gets_a_gap_and_then_what_is_new(
    new_database: NewDatabase, databases: Databases
) -> None:
    probe = await new_database("probe")
    async with opened(probe) as db, running(db) as log:
        await emit(db, "a", "b")
        kept = await last_event(log, 2)
    backup = await databases.copy(probe)
    async with opened(probe) as db, running(db) as log:
        await emit(db, "c", "d", "e")
        ahead = await last_event(log, 5)
    assert ahead.epoch == kept.epoch, "a restart is no restore"
    try:
        async with opened(backup) as db, running(db) as log:
            await emit(db, *(f"new_{n}" for n in range(5)))
            await logged(db, 7)
            for reader in (ahead, kept):
                tail = log.tail(Position(reader.epoch, reader.position))
                frames = await take(tail, 7)
                assert frames[0].gap.resume.position == 2
                names = [f.entry.event.aggregate_id for f in frames if f.HasField("entry")]
                assert names == [f"new_{n}" for n in range(5)]
    finally:
        await databases.drop(backup)


async def test_restore_under_a_running_service_gives_no_position_twice(
    new_database: NewDatabase,
) -> None:
    probe = await new_database("probe")
    async with opened(probe) as db, running(db) as log:
        await emit(db, "a")
        tail = log.tail(BEGINNING)
        old = (await next_frame(tail, "entry")).entry.event
        async with db.system() as tx:  # what a promoted standby, or a copied table, looks like
            await tx.run("update log_head set epoch = 'elsewhere-000000000000'")
        await emit(db, "b")
        new = (await next_frame(tail, "entry")).entry.event
        assert (new.aggregate_id, new.position) == ("b", 2)
        assert new.epoch not in {old.epoch, "elsewhere-000000000000"}
