"""Wake those who wait for an execution, in this process; others are woken by the event log."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from gathering_skills.models import Execution


class Waiter:
    """Waits for changes of one execution.

    `starts`: also for the beginning of its runs; `output`: also for what its tool tells. `end` is
    how it ended, if this process ended it.
    """

    def __init__(self, *, starts: bool = False, output: bool = False) -> None:
        self._changed = asyncio.Event()
        self.starts = starts
        self.output = output
        self.end: Execution | None = None

    def tell(self, end: Execution | None = None) -> None:
        """Say that it changed."""
        self.end = end or self.end
        self._changed.set()

    async def change(self, seconds: float) -> None:
        """Return at a change since the last call, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()


class WaitingRoom:
    """Bounds how many calls wait, so that the waiting leave room for all others."""

    def __init__(self, of_one_tenant: int = 64, of_all: int = 192) -> None:
        self._of_one_tenant = of_one_tenant
        self._of_all = of_all
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: str) -> Iterator[bool]:
        """Yield whether there is a place to wait, and hold it."""
        free = self._waiting[tenant] < self._of_one_tenant
        free = free and self._waiting.total() < self._of_all
        self._waiting[tenant] += free
        try:
            yield free
        finally:
            self._waiting[tenant] -= free
            if not self._waiting[tenant]:
                del self._waiting[tenant]


class Wakeups:
    """A hint that an execution changed; whoever waits looks for itself, also without one."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Waiter]] = defaultdict(set)

    @contextmanager
    def of(
        self, execution_id: str, *, starts: bool = False, output: bool = False
    ) -> Iterator[Waiter]:
        """Lend a waiter for an execution."""
        waiter = Waiter(starts=starts, output=output)
        self._waiting[execution_id].add(waiter)
        try:
            yield waiter
        finally:
            self._waiting[execution_id].discard(waiter)
            if not self._waiting[execution_id]:
                del self._waiting[execution_id]

    def started(self, execution_id: str) -> None:
        """Tell that a run began, to those who want to know."""
        for waiter in self._waiting.get(execution_id, ()):
            if waiter.starts:
                waiter.tell()

    def told(self, execution_id: str) -> None:
        """Tell that there is more output, to those who want to know."""
        for waiter in self._waiting.get(execution_id, ()):
            if waiter.output:
                waiter.tell()

    def wake(self, execution_id: str, end: Execution | None = None) -> None:
        """Tell that an execution changed, and how it ended if that is known and committed."""
        for waiter in self._waiting.get(execution_id, ()):
            waiter.tell(end)
