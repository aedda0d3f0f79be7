"""The recent entries of a log in memory, shared by all readers of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gathering.events.v1.event_log_service_pb2 import TailResponse


class Ring:
    """The last entries without gaps; a reader who is further behind reads the log itself.

    A reader is a position and a wait: it holds nothing here, so a slow one costs nothing.
    """

    def __init__(self, size: int) -> None:
        self._slots: list[TailResponse | None] = [None] * size
        self._changed = asyncio.Event()
        self.epoch = ""
        self.head = 0
        self._start = 0  # the position before the first that was ever pushed

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change; take it before looking, wait for it after."""
        return self._changed

    def begin(self, epoch: str, head: int) -> None:
        """Start anew, empty, at a head."""
        self.epoch = epoch
        self.head = self._start = head
        self._wake()

    def push(self, frames: Sequence[TailResponse]) -> None:
        """Add the entries that follow the head."""
        for frame in frames:
            self.head += 1
            if frame.entry.event.position != self.head:
                raise ValueError(f"{frame.entry.event.position} does not follow {self.head - 1}")
            self._slots[self.head % len(self._slots)] = frame
        self._wake()

    def after(self, position: int, limit: int) -> list[TailResponse] | None:
        """Return the next entries (none at the head); None when some are not held here."""
        if position > self.head or position < max(self._start, self.head - len(self._slots)):
            return None
        end = min(self.head, position + limit)
        held = (self._slots[n % len(self._slots)] for n in range(position + 1, end + 1))
        return [frame for frame in held if frame is not None]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
