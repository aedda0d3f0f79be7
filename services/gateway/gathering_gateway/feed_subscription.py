"""One subscriber of the feed: a place in each log and one wake-up for all that may move it.

What is recent is read from memory, at once. A log of which it is further behind, or that is down,
is read by a task of its own, one page ahead, so that it holds up no other.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Self

from gathering_gateway.models_feed import Batch, Place, Watcher
from gathering_gateway.ports import EventSource
from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError
from gathering_mesh.eventfilter import EventFilter

PAGE = 500  # entries per read
_LOOK_AGAIN = 5.0  # seconds, where no news came
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between tries at a source that is down


class Subscription:
    """Places that move forward; an async context manager, which ends what it started.

    `places` are those of what was sent: whoever sends moves them, and a log moves its own over
    what this subscriber does not get.
    """

    def __init__(
        self, call: Call, sources: Mapping[str, EventSource], places: dict[str, Place],
        only: EventFilter,
    ) -> None:  # fmt: skip
        self.places = places
        self._call = call
        self._sources = sources
        self._only = only
        self._wake = asyncio.Event()
        self._watcher = Watcher(self._wake, only, places)
        self._reading: dict[str, asyncio.Task[Batch]] = {}
        self._closing = asyncio.create_task(self._wake_at_close())
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Be woken from now on."""
        for name in self.places:
            self._sources[name].watchers.add(self._watcher)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Be woken no more, and read no more."""
        for name in self.places:
            self._sources[name].watchers.discard(self._watcher)
        if self._timer is not None:
            self._timer.cancel()
        tasks = (self._closing, *self._reading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def news(self) -> Iterator[tuple[str, Batch]]:
        """Yield what can be had now; each batch is sent before the next is asked for."""
        for name in self.places:
            batch = self._batch(name)
            if batch is not None:
                yield name, batch

    def _batch(self, name: str) -> Batch | None:
        place, source = self.places[name], self._sources[name]
        if place == source.head:
            return None
        read = self._reading.get(name)
        if read is not None:
            return self._read(name, read) if read.done() else None
        batch = source.recent(place, self._only, PAGE)
        if batch is None:
            task = asyncio.create_task(self._behind(source, place))
            task.add_done_callback(lambda _: self._wake.set())
            self._reading[name] = task
        elif batch.more:
            self._wake.set()
        return batch

    def _read(self, name: str, read: asyncio.Task[Batch]) -> Batch:
        """Return what was read of a log's past, and look at once whether there is more."""
        del self._reading[name]
        self._wake.set()
        return read.result()

    async def _behind(self, source: EventSource, place: Place) -> Batch:
        pause = _FIRST_PAUSE
        while True:
            changed = source.changed
            try:
                batch = await source.read(place, self._only, PAGE)
            except DomainError:  # the source is down; the others go on
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (spreads load)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            if not batch.items and not batch.more and batch.place == place:
                # The service has no more than this process knows of; it does not know it yet.
                await _set_within(changed, _LOOK_AGAIN)
            return batch

    async def wait(self, until: float) -> None:
        """Wait for news, for the call's closing, or until so many seconds of `time.monotonic()`."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, until - time.monotonic()), self._ring)
        await self._wake.wait()
        self._wake.clear()

    def _ring(self) -> None:
        self._timer = None
        self._wake.set()

    async def _wake_at_close(self) -> None:
        await self._call.closing.wait()
        self._wake.set()


async def _set_within(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
