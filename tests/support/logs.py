"""A running log in the test's own process, and readers of it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from gathering.events.v1.event_log_service_pb2 import TailResponse
from gathering_mesh.eventlog import EventLog, EventLogSettings
from gathering_mesh.log_rows import Position
from gathering_mesh.postgres import Database
from tests.support.happenings import MemoryForgotten
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


async def at_head(log: EventLog, position: int) -> bool:
    return log._ring.head == position
