"""Wake those who wait for an execution, in this process; others are woken by the event log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Wakeups:
    """A hint that an execution changed; whoever waits looks for itself, also without one."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def of(self, execution_id: str) -> Iterator[asyncio.Event]:
        """Lend an event that is set at each change; whoever looks clears it first."""
        event = asyncio.Event()
        self._waiting[execution_id].add(event)
        try:
            yield event
        finally:
            self._waiting[execution_id].discard(event)
            if not self._waiting[execution_id]:
                del self._waiting[execution_id]

    def wake(self, execution_id: str) -> None:
        """Tell that an execution changed."""
        for event in self._waiting.get(execution_id, ()):
            event.set()


async def woken(event: asyncio.Event, seconds: float) -> None:
    """Return at the event, or after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
