"""A keep-alive HTTP/1.1 connection that costs next to nothing beside what it measures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager


class Connection:
    """One request at a time; answers have a content-length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, request: bytes) -> bytes:
        """Send a whole request and return the body; RuntimeError where it is not answered 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head!r}{body!r}")
        return body

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def get(path: str, headers: Mapping[str, str]) -> bytes:
    """Return a request."""
    lines = [f"GET {path} HTTP/1.1", "host: bench", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def connections(address: str, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections."""
    host, _, port = address.rpartition(":")
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            connection = Connection(*await asyncio.open_connection(host, int(port)))
            stack.callback(connection.close)
            made.append(connection)
        yield made
