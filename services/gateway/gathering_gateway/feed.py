"""One feed of many logs: each log's events in order, none lost and none twice.

A subscriber is a place in each log. It is woken, takes what it can send and goes on from its place
later: from the recent entries in memory, or from the service itself. A slow one holds up nobody.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gathering_gateway import cursors
from gathering_gateway.feed_subscription import PAGE, Subscription
from gathering_gateway.models_feed import (
    START,
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

_SCANNED = 10_000  # entries per source that one page of a list may pass
_CLOCKS = 1.0  # seconds that the services' clocks may differ


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
        async with Subscription(call, self.sources, places, only) as subscription:
            yield CheckpointFrame(cursors.encode(places))
            due = time.monotonic() + self.checkpoint
            while not call.closing:
                sent = False
                for frame in _passed(call, subscription):
                    yield frame
                    sent = True
                if sent:
                    due = time.monotonic() + self.checkpoint
                elif time.monotonic() >= due:
                    yield CheckpointFrame(cursors.encode(places))
                    due = time.monotonic() + self.checkpoint
                await subscription.wait(due)
            yield ReconnectFrame(call.closing.reason.lower(), cursors.encode(places))

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


def _passed(call: Call, subscription: Subscription) -> Iterator[Frame]:
    """Yield frames of what can be had now, each with the places after it, until the call closes."""
    places = subscription.places
    for name, batch in subscription.news():
        for item in batch.items:
            if call.closing:
                return  # the places are those of what was sent
            places[name] = item.place
            if isinstance(item, Seen):
                yield EventFrame(item, cursors.encode(places))
            else:
                yield GapFrame(name, item.reason, cursors.encode(places))
        places[name] = batch.place


@dataclass(frozen=True, slots=True)
class _Slice:
    """What one source has for a page, up to `place`; `error`: it could not be read to there."""

    items: Sequence[Seen | Missing]
    place: Place
    end: bool
    error: Unavailable | None = None


async def _slice(source: EventSource, place: Place, only: EventFilter, limit: int) -> _Slice:
    items: list[Seen | Missing] = []
    for _ in range(_SCANNED // PAGE):
        try:
            batch = await source.read(place, only, PAGE)
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
            events.append(EventFrame(item, cursors.encode(places)))
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
