"""Count recalls in the database, after they were answered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import NoReturn

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

    async def run(self) -> NoReturn:
        """Write until cancelled; then write what waits."""
        try:
            await forever("count recalls", self._next)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    while not self._waiting.empty():
                        await self._next()

    async def _next(self) -> None:
        tenant, memory_ids = await self._waiting.get()
        async with self._db.transaction(tenant) as tx:
            await self._statistics.count(tx, memory_ids)
