"""Places at a provider that a replica of the agent service would have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gathering_agent.providers.places import Places
from gathering_agent.providers.store_places import PlaceStore
from gathering_mesh.postgres import Database

PROVIDER = "ollama"
LIMIT = 2
LEASE = 1.0


@asynccontextmanager
async def open_places(db: Database) -> AsyncIterator[Places]:
    """Yield the places of one replica, which keeps them until the end of the block."""
    places = Places(db, PlaceStore(), {PROVIDER: LIMIT}, LEASE)
    keeping = asyncio.create_task(places.run())
    try:
        yield places
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
