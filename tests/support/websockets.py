"""A client of `/ws` for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

Json = dict[str, Any]


@dataclass(frozen=True)
class Client:
    """An open WebSocket whose messages are frames."""

    connection: ClientConnection

    async def send(self, frame: Json) -> None:
        """Send a frame."""
        await self.connection.send(json.dumps(frame))

    async def receive(self) -> Json:
        """Return the next frame."""
        found: Json = json.loads(await self.connection.recv())
        return found

    async def answer(self, id: str) -> Json:
        """Return the next frame of a call; those of others are passed over."""
        while (found := await self.receive())["id"] != id:
            continue
        return found


@asynccontextmanager
async def opened(address: str, token: str, **options: Any) -> AsyncIterator[Client]:
    """Open one at `host:port`; the token goes into the header, unless it is empty.

    With `ssl`, a context that says whom to trust, it is encrypted.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= options.pop("headers", {})
    query = options.pop("query", "")
    url = f"{'wss' if 'ssl' in options else 'ws'}://{address}/ws{query}"
    async with connect(url, additional_headers=headers, proxy=None, **options) as connection:
        yield Client(connection)
