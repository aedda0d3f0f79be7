"""One feed of many logs: each log's events in order, none lost and none twice.

A subscriber is a place in each log. Its readers wait where it does not take what they have read,
and go on from their place later: from the recent entries in memory, or from the service itself.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gathering_gateway import cursors
from gathering_gateway.models_feed import (
    START,
    Batch,
    CheckpointFrame,
    EventFrame,
    EventPage,
    Frame,
    GapFrame,
    Missing,
    Place,
    ReconnectFrame,
    Seen,
    Wanted,
)
from gathering_gateway.ports import EventSource
from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError, InvalidArgument, Unavailable
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.paging import page_size

_PAGE = 500  # entries per read
_SCANNED = 10_000  # entries per source that one page of a list may pass
_LOOK_AGAIN = 5.0  # seconds, where no news came
_LONGEST_PAUSE = 5.0  # seconds between tries at a source that is down
_CLOCKS = 1.0  # seconds that the services' clocks may differ

_News = tuple[str, Batch] | BaseException | None


@dataclass(frozen=True, slots=True)
class Feed:
    """Merges the sources; `checkpoint` in seconds."""

    sources: Mapping[str, EventSource]
    checkpoint: float

    async def subscribe(
        self, call: Call, wanted: Wanted, cursor: str
    ) -> AsyncGenerator[Frame, None]:
        """Yield frames until the call closes; the last one says why."""
        places = self._places(wanted, cursor)
        only = wanted.seen_by(call.tenant, call.user, call.principal.role)
        # Two batches ahead for each source; then its reader waits.
        news: asyncio.Queue[_News] = asyncio.Queue(2 * len(places) + 1)
        tasks = [
            asyncio.create_task(self._follow(self.sources[name], place, only, news))
            for name, place in places.items()
        ]
        tasks.append(asyncio.create_task(_watch(call, news)))
        try:
            yield CheckpointFrame(cursors.encode(places))
            async for frame in self._frames(call, news, places):
                yield frame
            yield ReconnectFrame(call.closing.reason.lower(), cursors.encode(places))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _frames(
        self, call: Call, news: asyncio.Queue[_News], places: dict[str, Place]
    ) -> AsyncGenerator[Frame, None]:
        due = time.monotonic() + self.checkpoint
        while not call.closing:
            found = await _next(news, due - time.monotonic())
            if isinstance(found, BaseException):
                raise found
            sent = False
            if found is not None:
                name, batch = found
                for frame in _passed(name, batch, places):
                    yield frame
                    sent = True
            if sent or time.monotonic() >= due:
                yield CheckpointFrame(cursors.encode(places))
                due = time.monotonic() + self.checkpoint

    async def _follow(
        self, source: EventSource, place: Place, only: EventFilter, news: asyncio.Queue[_News]
    ) -> None:
        pause = 0.1
        while True:
            changed = source.changed
            try:
                batch = await source.read(place, only, _PAGE)
            except DomainError:  # the source is down; the others go on
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (spreads load)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            except Exception as error:
                await news.put(error)
                return
            pause = 0.1
            if batch.items or batch.place != place:
                await news.put((source.name, batch))
            place = batch.place
            if not batch.more:
                await _set_within(changed, _LOOK_AGAIN)

    async def page(self, call: Call, wanted: Wanted, cursor: str, size: int) -> EventPage:
        """Return stored events, about in the order of their time. Unavailable where a source is.

        A source that is down does not hold up the others as long as these have events to give.
        """
        limit = page_size(size)
        places = self._places(wanted, cursor or cursors.FROM_START)
        only = wanted.seen_by(call.tenant, call.user, call.principal.role)
        slices = dict(zip(
            places,
            await asyncio.gather(
                *(_slice(self.sources[name], place, only, limit) for name, place in places.items())
            ),
            strict=True,
        ))  # fmt: skip
        page = _merged(slices, places, limit)
        broken = next((found.error for found in slices.values() if found.error), None)
        if broken is not None and not page.events and not page.gaps:
            raise broken
        return page

    def _places(self, wanted: Wanted, cursor: str) -> dict[str, Place]:
        if unknown := wanted.sources - self.sources.keys():
            raise InvalidArgument(
                f"there is no source {min(unknown)}",
                fields={"filter.sources": f"names an unknown source; known: {self._names}"},
            )
        names = [name for name in self.sources if not wanted.sources or name in wanted.sources]
        if cursor == cursors.FROM_START:
            return dict.fromkeys(names, START)
        known = cursors.decode(cursor, self.sources.keys()) if cursor else {}
        return {name: known.get(name) or self._now(name) for name in names}

    def _now(self, name: str) -> Place:
        return self.sources[name].head or START._replace(since=time.time() - _CLOCKS)

    @property
    def _names(self) -> str:
        return ", ".join(self.sources)


def _passed(name: str, batch: Batch, places: dict[str, Place]) -> Iterator[Frame]:
    """Yield the frames of a batch, each with the places after it."""
    for item in batch.items:
        places[name] = item.place
        if isinstance(item, Seen):
            yield EventFrame(item.event, cursors.encode(places))
        else:
            yield GapFrame(name, item.reason, cursors.encode(places))
    places[name] = batch.place


async def _next(news: asyncio.Queue[_News], seconds: float) -> _News:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            return await news.get()
    except TimeoutError:
        return None


async def _watch(call: Call, news: asyncio.Queue[_News]) -> None:
    await call.closing.wait()
    await news.put(None)


async def _set_within(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one source has for a page, up to `place`; `error`: it could not be read to there."""

    items: Sequence[Seen | Missing]
    place: Place
    end: bool
    error: Unavailable | None = None


async def _slice(source: EventSource, place: Place, only: EventFilter, limit: int) -> _Slice:
    items: list[Seen | Missing] = []
    for _ in range(_SCANNED // _PAGE):
        try:
            batch = await source.read(place, only, _PAGE)
        except DomainError as error:
            message = f"the events of {source.name} cannot be read now"
            failure = Unavailable(message, retry_after=1.0)
            failure.__cause__ = error
            return _Slice(items, place, end=False, error=failure)
        items.extend(batch.items)
        place = batch.place
        if not batch.more or len(items) >= limit:
            return _Slice(items, place, end=not batch.more)
    return _Slice(items, place, end=False)


def _merged(slices: Mapping[str, _Slice], places: dict[str, Place], limit: int) -> EventPage:
    """Take the oldest events of all slices; a source's own order is kept."""
    streams = [_timed(name, found.items) for name, found in slices.items()]
    left = {name: len(found.items) for name, found in slices.items()}
    events: list[EventFrame] = []
    gaps: list[GapFrame] = []
    for _, name, item in heapq.merge(*streams, key=lambda timed: timed[0]):
        if len(events) == limit:
            break
        left[name] -= 1
        places[name] = item.place if left[name] else slices[name].place
        if isinstance(item, Seen):
            events.append(EventFrame(item.event, cursors.encode(places)))
        else:
            gaps.append(GapFrame(name, item.reason, cursors.encode(places)))
    for name, found in slices.items():
        if not left[name]:
            places[name] = found.place
    end = not any(left.values()) and all(found.end for found in slices.values())
    return EventPage(tuple(events), tuple(gaps), cursors.encode(places), end)


def _timed(
    name: str, items: Sequence[Seen | Missing]
) -> Iterator[tuple[float, str, Seen | Missing]]:
    """Yield items with times that do not go back, so that a merge keeps their order."""
    latest = 0.0
    for item in items:
        if isinstance(item, Seen):
            latest = max(latest, item.time)
        yield latest, name, item
