"""The log of a service: every replica moves events into it, keeps the recent ones, serves readers.

There is no leader. After its own commits, and once a second for safety, a replica moves what waits
in the outbox; the head row's lock makes that one at a time over all replicas. A notification tells
the others; it is a hint only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Self

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering_mesh import faults, idempotency, log_rows, outbox
from gathering_mesh.call import Call
from gathering_mesh.errors import Unavailable
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.listener import Listener
from gathering_mesh.log_frames import joined
from gathering_mesh.log_rows import Position
from gathering_mesh.loops import forever, jittered
from gathering_mesh.nudge import Nudge
from gathering_mesh.postgres import Database
from gathering_mesh.ring import Ring, position_of_frame
from gathering_mesh.settings import ServiceSettings
from gathering_mesh.streams import until_closing
from gathering_mesh.tail import Tail

_ALL = EventFilter()


@dataclass(frozen=True, slots=True)
class EventLogSettings:
    """How the log is moved, kept and read. Times in seconds."""

    retention: timedelta = timedelta(days=30)
    ring_size: int = 10_000  # entries in memory
    page: int = 500  # entries per read and per turn of a reader
    batch: int = 1_000  # events per move
    gather: float = 0.002  # how long a move waits for further commits
    pause: float = 0.015  # after a move: what is committed meanwhile goes with the next
    poll: float = 1.0
    heartbeat: float = 5.0  # of a reader to whom there is nothing to send
    sweep: float = 60.0  # between deletions of what is too old

    @classmethod
    def of(cls, settings: ServiceSettings) -> Self:
        """Return what a service is told."""
        return cls(retention=timedelta(days=settings.log_retention_days))


class EventLog:
    """The event log of the service whose database this is; `run` it for as long as it serves."""

    def __init__(self, db: Database, source: str, settings: EventLogSettings | None = None) -> None:
        self.source = source
        self._db = db
        self._settings = settings or EventLogSettings()
        self._ring = Ring(self._settings.ring_size, position_of_frame)
        self._arrived = Nudge()
        self._growing = asyncio.Lock()  # who moves or reads has the ring's head until it is pushed
        self._started = asyncio.Event()
        url = db.settings.listen_url or db.settings.system_url
        self._listener = Listener(url, f"{db.schema}_log", self._arrived.give)
        # Readers of old entries must not take the connections that new ones are moved with.
        self._reading = asyncio.Semaphore(max(1, db.settings.system_pool_size // 2))

    async def start(self) -> None:
        """Learn the head of the log; before that, `tail` cannot tell what is new. Repeatable."""
        if not self._started.is_set():
            async with self._db.system() as tx:
                await log_rows.lock_head(tx)
            page = await self._page(0, 1)
            self._ring.begin(page.epoch, page.head)
            self._started.set()

    async def run(self) -> None:
        """Move, read, listen and sweep until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listener.run())
            tasks.create_task(forever("move events", self._publish))
            tasks.create_task(forever("read events", self._follow))
            tasks.create_task(forever("sweep", self._sweep))

    def tail(
        self,
        after: Position | None = None,
        tenant: str | None = None,
        only: EventFilter = _ALL,
    ) -> AsyncGenerator[pb.TailResponse, None]:
        """Return the entries after a position, in order and without gaps, without an end.

        None is the head at the moment of this call, so that state that is read afterwards and the
        entries that follow miss nothing between them; (`""`, 0) is all that is kept. Frames are an
        `entry`, a `head` (all up to it was sent; every few seconds when idle) or a `gap` (entries
        are missing: older than the retention, or of another epoch).
        """
        if tenant is not None:
            only = replace(only, tenant=tenant)
        return _each(self.pages(after, only))

    def pages(
        self, after: Position | None = None, only: EventFilter = _ALL
    ) -> AsyncGenerator[Sequence[pb.TailResponse], None]:
        """Return the same frames in pages of those that are there at once."""
        if after is None and self._started.is_set():
            after = Position(self._ring.epoch, self._ring.head)
        return self._pages(after, only)

    def entries(self, only: EventFilter) -> AsyncGenerator[pb.LogEntry, None]:
        """Yield the entries from now on: for watchers, who read state first and then changes.

        Raises Unavailable where entries are missing; the watcher's client then comes again.
        """
        return _entries(self.tail(None, None, only))

    async def _pages(
        self, after: Position | None, only: EventFilter
    ) -> AsyncGenerator[Sequence[pb.TailResponse], None]:
        await self._started.wait()
        start = after or Position(self._ring.epoch, self._ring.head)
        tail = Tail(self._ring, self._old_page, start, only)
        sent, told = time.monotonic(), False
        while True:
            changed = self._ring.changed
            if frames := await tail.next_frames(self._settings.page):
                yield frames
                sent = time.monotonic()
            idle = time.monotonic() - sent >= self._settings.heartbeat
            if idle or (tail.caught_up and not told):
                yield [tail.head()]
                sent, told = time.monotonic(), True
            await tail.more(changed, self._settings.heartbeat)

    async def _old_page(self, after: int, limit: int) -> log_rows.Page:
        async with self._reading:
            return await self._page(after, limit)

    async def _page(self, after: int, limit: int) -> log_rows.Page:
        async with self._db.system() as tx:
            return await log_rows.read_page(tx, after, limit)

    async def _publish(self) -> None:
        settings = self._settings
        nudged = await self._db.events_written.wait(settings.poll, gather=settings.gather)
        count = await self._move(look=not nudged)
        while count == settings.batch:
            count = await self._move(look=False)
        if count:
            await asyncio.sleep(settings.pause)

    async def _move(self, *, look: bool) -> int:
        async with self._growing:
            async with self._db.system() as tx:
                if look and await outbox.is_empty(tx):
                    return 0
                await faults.point("log.moving")
                moved = await outbox.move(tx, self._settings.batch)
                await faults.point("log.moved")
            if moved.frames:
                await faults.point("log.committed")
                self._push(moved)
        if moved.frames:
            await self._listener.notify()
            await faults.point("log.notified")
        return len(moved.frames)

    def _push(self, moved: outbox.Moved) -> None:
        """Take what was moved here into the ring; where it does not follow, it is read."""
        if moved.after == (self._ring.epoch, self._ring.head):
            self._ring.push(moved.frames)
        else:
            self._arrived.give()

    async def _follow(self) -> None:
        """Bring new entries into the ring; begin it anew where the log does not follow it."""
        await self.start()
        await self._arrived.wait(self._settings.poll)
        more = True
        while more:
            async with self._growing:
                more = await self._read_on()

    async def _read_on(self) -> bool:
        """Read a page behind the ring's head; tell whether there is more."""
        page = await self._page(self._ring.head, self._settings.page)
        if not self._follows(page):
            self._ring.begin(page.epoch, page.head)
            return False
        if page.frames:
            self._ring.push(page.frames)
        return self._ring.head < page.head

    def _follows(self, page: log_rows.Page) -> bool:
        first = page.frames[0].entry.event.position if page.frames else page.head + 1
        return page.epoch == self._ring.epoch and first == self._ring.head + 1

    async def _sweep(self) -> None:
        more = True
        while more:
            async with self._db.system() as tx:
                more = await log_rows.trim(tx, self._settings.retention)
        async with self._db.system() as tx:
            await idempotency.sweep(tx, self._db.settings.idempotency)
        await asyncio.sleep(jittered(self._settings.sweep))


async def _each(
    pages: AsyncGenerator[Sequence[pb.TailResponse], None],
) -> AsyncGenerator[pb.TailResponse, None]:
    async with aclosing(pages):
        async for page in pages:
            for frame in page:
                yield frame


async def _entries(
    tail: AsyncGenerator[pb.TailResponse, None],
) -> AsyncGenerator[pb.LogEntry, None]:
    async with aclosing(tail) as frames:
        async for frame in frames:
            if frame.HasField("gap"):
                raise Unavailable("the event log was cut; start again")
            if frame.HasField("entry"):
                yield frame.entry


class EventLogServicer:
    """Serves `EventLogService`: the log of this service, for the others."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def Tail(self, request: pb.TailRequest, call: Call) -> AsyncIterator[pb.TailResponse]:
        """Stream the log from a position on; UNAVAILABLE when this replica goes."""
        after = None
        if request.HasField("after"):
            after = Position(request.after.epoch, request.after.position)
        only = EventFilter(types=frozenset(request.types))
        async with aclosing(until_closing(call, self._log.pages(after, only))) as pages:
            async for page in pages:
                for frame in joined(page) if request.together else page:
                    yield frame
                    if call.closing:
                        break
        raise Unavailable("this replica ends; another has the same log", retry_after=0.0)
