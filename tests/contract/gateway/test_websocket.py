"""The WebSocket: calls and their answers, what it refuses, how it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.support.gateway import Gateway

Json = dict[str, Any]


@asynccontextmanager
async def websocket(
    gateway: Gateway, token: str, **options: Any
) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket on the gateway's own port."""
    url = f"ws://127.0.0.1:{gateway.app.http.port}/ws"
    headers = {"authorization": f"Bearer {token}"}
    async with connect(url, additional_headers=headers, proxy=None, **options) as connection:
        yield connection


async def send(connection: ClientConnection, frame: Json) -> None:
    """Send a frame."""
    await connection.send(json.dumps(frame))


async def receive(connection: ClientConnection) -> Json:
    """Return the next frame."""
    found: Json = json.loads(await connection.recv())
    return found


async def test_subscription_begins_with_a_checkpoint_and_shows_what_happens(
    gateway: Gateway,
) -> None:
    admin = await gateway.admin()
    async with websocket(gateway, admin.access_token) as connection:
        await send(connection, {"id": "1", "subscribe": {"filter": {"types": ["user_created"]}}})
        first = await receive(connection)
        assert first["id"] == "1"
        assert first["message"]["subscribe"]["checkpoint"]["cursor"]
