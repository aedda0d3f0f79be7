"""Write events as another replica of a service does: to its outbox, and from there to its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gathering_memory.events import MemoryCreated
from gathering_mesh.eventlog import EventLog
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.load.system import System

SOURCE, TYPE = "memory", "memory_created"


@asynccontextmanager
async def writer(system: System) -> AsyncIterator[Database]:
    """Open the memory service's database beside it; what is written is moved at once."""
    told = system.mesh.environment_of("memory")
    settings = DatabaseSettings(
        url=told["GATHERING_DATABASE_URL"], system_url=told["GATHERING_SYSTEM_DATABASE_URL"]
    )
    async with Database.open(settings, schema="memory") as db:
        moving = asyncio.create_task(EventLog(db, SOURCE).run())
        try:
            yield db
        finally:
            moving.cancel()
            await asyncio.wait({moving})


async def write(db: Database, tenant: str, count: int) -> None:
    """Commit so many events in one transaction."""
    async with db.transaction(tenant) as tx:
        for _ in range(count):
            tx.emit(*happening())


def happening() -> tuple[str, MemoryCreated]:
    """Return an event and what it happens to."""
    memory = new_id("mem")
    return memory, MemoryCreated(
        memory_id=memory,
        scope_kind="SCOPE_KIND_TENANT",
        scope_id="",
        agent_id="",
        memory_type="MEMORY_TYPE_FACT",
        importance=0.5,
        content_hash="0" * 64,
    )
