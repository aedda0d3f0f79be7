"""One reader's way through the log: from the ring where it can, from the table where it must."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.log_rows import Page, Position
from gathering_mesh.ring import Ring

ReadPage = Callable[[int, int], Awaitable[Page]]


class Tail:
    """A position that moves forward; what it passes and the filter admits becomes frames."""

    def __init__(
        self, ring: Ring[pb.TailResponse], read_page: ReadPage, after: Position, only: EventFilter
    ) -> None:
        self._ring = ring
        self._read_page = read_page
        self._only = only
        self._at = after if after.epoch else Position(ring.epoch, after.position)

    @property
    def caught_up(self) -> bool:
        """Whether all that this process knows of was passed.

        It may know less than this reader, who came from another replica or read the table.
        """
        return self._at.epoch != self._ring.epoch or self._at.position >= self._ring.head

    async def next_frames(self, limit: int) -> Sequence[pb.TailResponse]:
        """Pass at most so many entries and return what is to be sent of them."""
        if self._at.epoch == self._ring.epoch:
            frames = self._ring.after(self._at.position, limit)
            if frames is not None:
                return self._pass(frames)
        return self._of_page(await self._read_page(self._at.position, limit))

    def head(self) -> pb.TailResponse:
        """Return the frame that tells how far this reader is."""
        frame = pb.TailResponse(head=pb.LogHead(position=_position(self._at)))
        frame.head.time.GetCurrentTime()
        return frame

    async def more(self, changed: asyncio.Event, seconds: float) -> None:
        """Wait until there is more, or for so many seconds; others get a turn in any case."""
        if not self.caught_up:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return

    def _of_page(self, page: Page) -> Sequence[pb.TailResponse]:
        if page.epoch != self._at.epoch:
            start = Position(page.epoch, min(self._at.position, page.epoch_start))
            return [self._gap(pb.LogGap.REASON_EPOCH, start)]
        if self._at.position > page.head:  # a restored log of which nobody told
            return [self._gap(pb.LogGap.REASON_EPOCH, Position(page.epoch, page.head))]
        first = page.frames[0].entry.event.position if page.frames else page.head + 1
        if first > self._at.position + 1:
            gap = self._gap(pb.LogGap.REASON_RETENTION, Position(page.epoch, first - 1))
            return [gap, *self._pass(page.frames)]
        return self._pass(page.frames)

    def _pass(self, frames: Sequence[pb.TailResponse]) -> Sequence[pb.TailResponse]:
        if frames:
            self._at = Position(self._at.epoch, frames[-1].entry.event.position)
        return [frame for frame in frames if self._only.admits(frame.entry)]

    def _gap(self, reason: pb.LogGap.Reason.ValueType, resume: Position) -> pb.TailResponse:
        gap = pb.LogGap(reason=reason, asked=_position(self._at), resume=_position(resume))
        self._at = resume
        return pb.TailResponse(gap=gap)


def _position(at: Position) -> pb.LogPosition:
    return pb.LogPosition(epoch=at.epoch, position=at.position)
