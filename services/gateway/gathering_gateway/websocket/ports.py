"""What a connection needs: the two ends that it joins."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Protocol

from gathering_gateway.websocket.models import Visitor


class Socket(Protocol):
    """A client's end; each method raises Gone once the client has left."""

    async def receive(self) -> str | bytes:
        """Return the next message."""

    async def send(self, text: str) -> None:
        """Send a message; returns when there is room for the next."""

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""


class Answers(Protocol):
    """The services' end."""

    def __call__(
        self, visitor: Visitor, id: str, request: Any, request_id: str
    ) -> AsyncGenerator[str, None]:
        """Yield the frames that answer a call, of which the last ends it."""
