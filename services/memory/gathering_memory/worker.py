"""Claim embedding work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gathering_memory.models import EMBED
from gathering_mesh.lease import Lease
from gathering_mesh.postgres import Database
from gathering_mesh.work import WorkLoop, WorkSettings

# One batch of the embedder, and a part of the next while it is computed.
_AT_ONCE = 48


async def run_when_ready(
    db: Database, ready: asyncio.Event, embed: Callable[[Lease], Awaitable[None]]
) -> None:
    """Claim embedding work once there is a model; until then it stays where it is."""
    await ready.wait()
    await WorkLoop(db, {EMBED: embed}, WorkSettings(concurrency=_AT_ONCE)).run()
