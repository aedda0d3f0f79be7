"""Many gRPC streams on few connections, read at the cost of their bytes.

grpc.aio reads some 20,000 messages a second; what is measured here sends more. So this speaks just
enough HTTP/2: requests without compressed headers, windows that never close, frames told apart.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_HEAD = 9
_LARGEST_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_MESSAGE_HEAD = 5
_STREAMS_OF_CONNECTION = 250

Taken = Callable[[int, bytes, float], None]  # number of the stream, message, time.perf_counter()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    size = len(payload)
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def _integer(value: int, prefix: int) -> bytes:
    most = (1 << prefix) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:  # seven bits at a time
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def _header(name: str, value: str) -> bytes:
    texts = (name.encode(), value.encode())
    return b"\x00" + b"".join(_integer(len(text), 7) + text for text in texts)


@dataclass(frozen=True)
class Stream:
    """What is asked for on each stream."""

    path: str
    message: bytes
    metadata: Sequence[tuple[str, str]] = ()


class _Connection(asyncio.Protocol):
    def __init__(self, asked: Stream) -> None:
        plain = (
            *(
                (":method", "POST"),
                (":scheme", "http"),
                (":path", asked.path),
                (":authority", "bench"),
            ),
            *(("content-type", "application/grpc"), ("te", "trailers"), *asked.metadata),
        )
        self._headers = b"".join(_header(name, value) for name, value in plain)
        self._message = b"\0" + len(asked.message).to_bytes(4, "big") + asked.message
        self._buffer = b""
        self._parts: dict[int, bytes] = {}
        self._numbers: dict[int, int] = {}
        self.taken: Taken | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.problem = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)  # uvloop's own is not derived from it
        self._transport = made
        self.ready.set_result(None)
        window = struct.pack(">HI", 4, _LARGEST_WINDOW)
        whole = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
        made.write(_PREFACE + frame(_SETTINGS, 0, 0, window) + frame(_WINDOW, 0, 0, whole))

    def open(self, number: int) -> None:
        """Begin a stream; its messages are told with this number."""
        stream = 2 * len(self._numbers) + 1
        self._numbers[stream] = number
        self._transport.write(
            frame(_HEADERS, _END_HEADERS, stream, self._headers)
            + frame(_DATA, _END_STREAM, stream, self._message)
        )

    def close(self) -> None:
        """Hang up."""
        self.taken = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= _HEAD:
            size = int.from_bytes(buffer[at : at + 3], "big")
            after = at + _HEAD + size
            if after > end:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + _HEAD], "big")
            payload = buffer[at + _HEAD : after]
            if kind == _DATA:
                self._messages(stream, payload, now)
            else:
                self._control(kind, flags, stream, payload)
            at = after
        self._buffer = buffer[at:]

    def _messages(self, stream: int, payload: bytes, now: float) -> None:
        left = self._parts.pop(stream, b"") + payload
        number = self._numbers[stream]
        while len(left) >= _MESSAGE_HEAD:
            end = _MESSAGE_HEAD + int.from_bytes(left[1:_MESSAGE_HEAD], "big")
            if len(left) < end:
                break
            if self.taken is not None:
                self.taken(number, left[_MESSAGE_HEAD:end], now)
            left = left[end:]
        if left:
            self._parts[stream] = left

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in {_PING, _SETTINGS} and not flags & _ACK:
            answer = payload if kind == _PING else b""
            self._transport.write(frame(kind, _ACK, 0, answer))
        elif kind in {_RESET, _GOAWAY} or (kind == _HEADERS and flags & _END_STREAM):
            self.problem = f"stream {stream} ended (frame {kind}): {payload!r}"


@asynccontextmanager
async def streams(
    address: str, asked: Stream, count: int, taken: Taken
) -> AsyncIterator[Callable[[], str]]:
    """Open streams and tell `taken` of each message; yields what tells of a stream that ended."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    held: list[_Connection] = []
    try:
        for number in range(count):
            if number % _STREAMS_OF_CONNECTION == 0:
                _, made = await loop.create_connection(lambda: _Connection(asked), host, int(port))
                await made.ready
                made.taken = taken
                held.append(made)
            held[-1].open(number)
        yield lambda: next((each.problem for each in held if each.problem), "")
    finally:
        for each in held:
            each.close()
