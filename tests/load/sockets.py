"""Many WebSockets, read at the cost of their bytes: frames are told apart and not decoded."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_LENGTH_16, _LENGTH_64 = 126, 127
_OPENING_AT_ONCE = 20
_SECONDS = 90.0

Taken = Callable[[int, bytes, float], None]


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame; a mask of zeros is one as well."""
    size = len(payload)
    if size < _LENGTH_16:
        head = bytes([0x80 | opcode, 0x80 | size])
    else:
        head = bytes([0x80 | opcode, 0x80 | _LENGTH_16]) + size.to_bytes(2, "big")
    return head + bytes(4) + payload


@dataclass(frozen=True)
class Socket:
    """What is asked for by each socket; `first` is the first frame."""

    path: str
    first: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class _Socket(asyncio.Protocol):
    def __init__(self, number: int, request: bytes, first: bytes, taken: Taken) -> None:
        self._number = number
        self._request = request
        self._first = first
        self._taken = taken
        self._buffer = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problem = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)  # uvloop's own is not derived from it
        self._transport = made
        made.write(self._request)

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.problem = self.problem or f"socket {self._number} was closed: {exc}"
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(self.problem))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self._buffer += data
        if not self.opened.done() and not self._upgraded():
            return
        self._frames(now)

    def _upgraded(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            self.problem = repr(self._buffer)
            self._transport.abort()
            return False
        self._buffer = rest
        self._transport.write(masked(_TEXT, self._first))
        self.opened.set_result(None)
        return True

    def _frames(self, now: float) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, begin = buffer[at + 1], at + 2
            if size >= _LENGTH_16:
                wide = 2 if size == _LENGTH_16 else 8
                size, begin = int.from_bytes(buffer[begin : begin + wide], "big"), begin + wide
            if len(buffer) < begin + size:
                break
            self._frame(buffer[at] & 0x0F, buffer[begin : begin + size], now)
            at = begin + size
        self._buffer = buffer[at:]

    def _frame(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == _TEXT:
            self._taken(self._number, payload, now)
        elif opcode == _PING:
            self._transport.write(masked(_PONG, payload))
        elif opcode == _CLOSE:
            self.problem = f"socket {self._number} was closed: {payload!r}"


@asynccontextmanager
async def sockets(
    address: str, asked: Socket, count: int, taken: Taken
) -> AsyncIterator[Callable[[], str]]:
    """Open WebSockets, send the first frame on each and tell `taken` of each text frame."""
    lines = [
        f"GET {asked.path} HTTP/1.1",
        "host: bench",
        "connection: Upgrade",
        "upgrade: websocket",
    ]
    lines += [
        "sec-websocket-version: 13",
        *(f"{name}: {value}" for name, value in asked.headers.items()),
    ]
    lines.append(f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}")
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    held: list[_Socket] = []

    async def open_one(number: int) -> None:
        _, made = await loop.create_connection(
            lambda: _Socket(number, request, asked.first, taken), host, int(port)
        )
        held.append(made)
        await made.opened

    try:
        async with asyncio.timeout(_SECONDS):
            for start in range(0, count, _OPENING_AT_ONCE):
                few = range(start, min(count, start + _OPENING_AT_ONCE))
                await asyncio.gather(*map(open_one, few))
        yield lambda: next((each.problem for each in held if each.problem), "")
    finally:
        for each in held:
            each.close()
