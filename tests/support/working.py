"""Claim loops in the test's own process, and what is in the work table."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Container
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from gathering_mesh.postgres import Database
from gathering_mesh.work import Lease, WorkLoop, WorkSettings

Handler = Callable[[Lease], Awaitable[None]]


@asynccontextmanager
async def working(db: Database, handler: Handler, **settings: Any) -> AsyncIterator[WorkLoop]:
    """Run a loop with one kind of work."""
    defaults = {"lease": 1.0, "poll": 0.1, "drain": 0.1, "retry_first": 0.01, "retry_most": 0.05}
    loop = WorkLoop(db, {"hold": handler}, WorkSettings(**{**defaults, **settings}))
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        await asyncio.wait({task})


async def schedule(db: Database, *ids: str, after: float | None = None) -> None:
    """Schedule work of that kind, now or after seconds."""
    due = None if after is None else timedelta(seconds=after)
    async with db.transaction("ten_a") as tx:
        for one in ids:
            await tx.schedule("hold", one, due)


async def rows(db: Database) -> dict[str, Any]:
    """Return the rows of the work table by id."""
    async with db.system() as tx:
        return {row["id"]: row for row in await tx.fetch("select * from work")}


async def none_left(db: Database) -> bool:
    """Tell whether all work is done."""
    return not await rows(db)


async def has_length(what: Collection[Any], length: int) -> bool:
    """Tell whether so much has been collected."""
    return len(what) == length


async def is_in(one: str, where: Container[str]) -> bool:
    """Tell whether something has been collected."""
    return one in where
