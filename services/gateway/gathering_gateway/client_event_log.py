"""The event log of a service as the feed reads it: recent entries from memory, older from there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering.events.v1.event_log_service_pb2_grpc import EventLogServiceStub
from gathering.events.v1.event_pb2 import Event
from gathering_gateway.models_feed import Batch, Missing, Place, Seen, Watcher
from gathering_mesh.client import Channels, peer
from gathering_mesh.errors import DomainError, Unavailable
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.log_frames import parted
from gathering_mesh.log_rows import Position
from gathering_mesh.loops import backoff
from gathering_mesh.ring import Ring

OpenTail = Callable[[Position | None], AsyncGenerator[pb.TailResponse, None]]

_log = logging.getLogger(__name__)
_PAGE_SECONDS = 10.0
_PAGE_BYTES = 256 * 1024  # a slow reader holds a page of each log for as long as it likes
_LONGEST_PAUSE = 2.0
_LOGGED_FAILURE = 50  # one in so many is logged while a log stays away
_REASONS = {pb.LogGap.REASON_RETENTION: "retention", pb.LogGap.REASON_EPOCH: "epoch"}


@dataclass(frozen=True, slots=True)
class _Recent:
    """An entry in memory, and the one thing that all who may see it get."""

    entry: pb.LogEntry
    seen: Seen


def tail_of_peer(channels: Channels, service: str) -> OpenTail:
    """Return what opens the log of another service."""

    async def tail(after: Position | None) -> AsyncGenerator[pb.TailResponse, None]:
        request = pb.TailRequest(together=True)
        if after is not None:
            request.after.CopyFrom(pb.LogPosition(epoch=after.epoch, position=after.position))
        with peer(service):
            stub = EventLogServiceStub(channels.to(service))
            stream = stub.Tail(request, **channels.outgoing_as_actor(timeout=None))
            try:
                async for frame in stream:
                    for one in parted(frame):
                        yield one
            finally:
                stream.cancel()

    return tail


class FollowedLog:
    """Follows one log for the whole process; `run` it for as long as there are readers."""

    def __init__(self, name: str, open_tail: OpenTail, ring_entries: int) -> None:
        self.name = name
        self._open = open_tail
        self._ring = Ring(ring_entries, _position)
        self._head: Place | None = None
        self.watchers: set[Watcher] = set()

    @property
    def head(self) -> Place | None:
        """Return the newest place that is known."""
        return self._head

    @property
    def changed(self) -> asyncio.Event:
        """Return what is set when there is more."""
        return self._ring.changed

    async def run(self) -> None:
        """Follow until cancelled, from where it was cut."""
        failures = 0
        while True:
            before = self.head
            try:
                await self._follow()
            except DomainError as error:
                failures = 1 if self.head != before else failures + 1
                # An end of our own token comes every five minutes and means nothing.
                if failures % _LOGGED_FAILURE == 1 and error.reason != "TOKEN_EXPIRED":
                    _log.warning("the log of %s was cut: %s", self.name, error.message)
            await asyncio.sleep(backoff(failures, 0.1, _LONGEST_PAUSE))

    async def _follow(self) -> None:
        at = self.head
        after = Position(at.epoch, at.position) if at else None
        async with aclosing(self._open(after)) as frames:
            async for frame in frames:
                self._take(frame)

    def _take(self, frame: pb.TailResponse) -> None:
        ring = self._ring
        if frame.HasField("gap"):
            ring.begin(frame.gap.resume.epoch, frame.gap.resume.position)
        elif frame.HasField("entry"):
            if frame.entry.event.position != ring.head + 1 or not ring.epoch:
                ring.begin(frame.entry.event.epoch, frame.entry.event.position - 1)
            ring.push([_Recent(frame.entry, _seen(frame.entry.event))])
        elif not ring.epoch:
            ring.begin(frame.head.position.epoch, frame.head.position.position)
        else:
            return
        known, self._head = self._head, Place(ring.epoch, ring.head)
        before = Place(ring.epoch, ring.head - 1)
        if known == before and frame.HasField("entry"):
            self._pass(frame.entry, before, self._head)
        else:
            for watcher in self.watchers:
                watcher.wake.set()

    def _pass(self, entry: pb.LogEntry, before: Place, after: Place) -> None:
        """Wake those whom an entry concerns; those at the head move on over it asleep."""
        for watcher in self.watchers:
            if watcher.places[self.name] == before and not watcher.only.admits(entry):
                watcher.places[self.name] = after
            else:
                watcher.wake.set()

    def recent(self, after: Place, only: EventFilter, limit: int) -> Batch | None:
        """Pass entries after a place; None where they are not at hand."""
        ring = self._ring
        if after.since or not after.epoch or after.epoch != ring.epoch:
            return None
        found = ring.after(after.position, limit)
        if found is None:
            return None
        items = tuple(each.seen for each in found if only.admits(each.entry))
        place = found[-1].seen.place if found else after
        return Batch(items, place, place.position < ring.head)

    async def read(self, after: Place, only: EventFilter, limit: int) -> Batch:
        """Pass at most so many entries after a place."""
        at_hand = self.recent(after, only, limit)
        if at_hand is not None:
            return at_hand
        frames = await self._page(after, limit)
        return _batch(after, frames, only, more=not frames[-1].HasField("head"))

    async def _page(self, after: Place, limit: int) -> Sequence[pb.TailResponse]:
        """Return entries from the service itself; the last frame tells whether that was all."""
        frames: list[pb.TailResponse] = []
        held = 0
        try:
            async with (
                asyncio.timeout(_PAGE_SECONDS),
                aclosing(self._open(Position(after.epoch, after.position))) as tail,
            ):
                async for frame in tail:
                    frames.append(frame)
                    held += frame.ByteSize()
                    full = len(frames) == limit or held >= _PAGE_BYTES
                    if full or not frame.HasField("entry"):
                        return frames
        except TimeoutError as error:
            raise Unavailable(f"the log of {self.name} does not answer") from error
        raise Unavailable(f"the log of {self.name} was cut")


def _batch(
    after: Place, frames: Sequence[pb.TailResponse], only: EventFilter, *, more: bool
) -> Batch:
    items: list[Seen | Missing] = []
    place = after
    for frame in frames:
        place = _place_after(frame, after)
        if frame.HasField("gap"):
            if not _is_beginning(frame.gap, after):
                items.append(Missing(_REASONS.get(frame.gap.reason, "epoch"), place))
        elif frame.HasField("entry") and only.admits(frame.entry):
            seen = _seen(frame.entry.event)
            if seen.time >= after.since:
                items.append(Seen(seen.event, seen.time, place))
    return Batch(tuple(items), place if more else place._replace(since=0.0), more)


def _seen(event: Event) -> Seen:
    place = Place(event.epoch, event.position)
    return Seen(event, event.commit_time.seconds + event.commit_time.nanos / 1e9, place)


def _position(of: _Recent) -> int:
    return of.seen.place.position


def _place_after(frame: pb.TailResponse, before: Place) -> Place:
    if frame.HasField("entry"):
        return Place(frame.entry.event.epoch, frame.entry.event.position, before.since)
    at = frame.gap.resume if frame.HasField("gap") else frame.head.position
    return Place(at.epoch, at.position, before.since)


def _is_beginning(gap: pb.LogGap, after: Place) -> bool:
    """Tell the front of the log, asked for as `from the oldest that is kept`, from a gap."""
    return gap.reason == pb.LogGap.REASON_RETENTION and not after.epoch
