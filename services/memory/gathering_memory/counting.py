"""Count recalls in the database, after they were answered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from gathering_memory.ports import Statistics
from gathering_mesh.loops import forever
from gathering_mesh.postgres import Database

_WAITING = 1_000  # recalls; the next one waits, so that none is left out
_DRAIN_SECONDS = 5.0


class Counting:
    """Takes what was recalled and writes it soon after: one statement for each recall.

    A recall is counted at most once. What waits when the process is killed (milliseconds, as a
    rule) is not counted; a process that is told to stop writes it first.
    """

    def __init__(self, db: Database, statistics: Statistics) -> None:
        self._db = db
        self._statistics = statistics
        self._waiting: asyncio.Queue[tuple[str, Collection[str]]] = asyncio.Queue(_WAITING)

    async def __call__(self, tenant: str, memory_ids: Collection[str]) -> None:
        """Have one recall of these counted; waits only while too many others wait."""
        await self._waiting.put((tenant, memory_ids))

    async def run(self) -> None:
        """Write until cancelled; then write what waits."""
        # A task of its own, so that being cancelled does not cut a write that is under way.
        writing = asyncio.create_task(forever("count recalls", self._next))
        try:
            await asyncio.shield(writing)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._waiting.join()
            writing.cancel()

    async def _next(self) -> None:
        tenant, memory_ids = await self._waiting.get()
        try:
            async with self._db.transaction(tenant) as tx:
                await self._statistics.count(tx, memory_ids)
        finally:
            self._waiting.task_done()
