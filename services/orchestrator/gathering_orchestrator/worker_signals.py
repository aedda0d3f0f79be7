"""Wake those who watch a task: by this service's own log, and now and then besides."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.eventlog import EventLog
from gathering_mesh.loops import forever
from gathering_mesh.nudge import Nudge

# Seconds. The log tells of changes by all replicas at once; what is no event can wait so long.
_POLL = 5.0
_GATHER = 0.02  # what happens within so short a time is shown at once


class TaskSignals:
    """See `ports.Signals`: one reader of the log for all watchers of this process."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._watchers: defaultdict[str, set[Nudge]] = defaultdict(set)

    @property
    def watched(self) -> int:
        """Return how many tasks are watched."""
        return len(self._watchers)

    @asynccontextmanager
    async def watching(self, task_id: str) -> AsyncIterator[AsyncIterator[None]]:
        """Yield at once, whenever the task may have changed, and now and then besides."""
        nudge = Nudge()
        self._watchers[task_id].add(nudge)
        try:
            yield _looks(nudge)
        finally:
            self._watchers[task_id].discard(nudge)
            if not self._watchers[task_id]:
                del self._watchers[task_id]

    async def run(self) -> None:
        """Follow the log until cancelled."""
        await forever("wake watchers", self._follow)

    async def _follow(self) -> None:
        async for entry in self._log.entries(EventFilter()):
            for nudge in self._watchers.get(entry.event.aggregate_id, ()):
                nudge.give()
        await asyncio.sleep(_POLL)  # the log ended, which is not its way


async def _looks(nudge: Nudge) -> AsyncIterator[None]:
    while True:
        yield
        await nudge.wait(_POLL, gather=_GATHER)
