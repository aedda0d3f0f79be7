"""The recent entries of a log in memory, shared by all readers of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from gathering.events.v1.event_log_service_pb2 import TailResponse

E = TypeVar("E")


def position_of_frame(frame: TailResponse) -> int:
    """Return the position of an entry."""
    return frame.entry.event.position


class Ring(Generic[E]):
    """The last entries without gaps; a reader who is further behind reads the log itself.

    A reader is a position and a wait: it holds nothing here, so a slow one costs nothing.
    """

    def __init__(self, size: int, position_of: Callable[[E], int]) -> None:
        self._slots: list[E | None] = [None] * size
        self._position_of = position_of
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

    def push(self, entries: Sequence[E]) -> None:
        """Add the entries that follow the head."""
        for entry in entries:
            self.head += 1
            if self._position_of(entry) != self.head:
                raise ValueError(f"{self._position_of(entry)} does not follow {self.head - 1}")
            self._slots[self.head % len(self._slots)] = entry
        self._wake()

    def after(self, position: int, limit: int) -> list[E] | None:
        """Return the next entries (none at the head); None when some are not held here."""
        if position > self.head or position < max(self._start, self.head - len(self._slots)):
            return None
        end = min(self.head, position + limit)
        held = (self._slots[n % len(self._slots)] for n in range(position + 1, end + 1))
        return [entry for entry in held if entry is not None]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
