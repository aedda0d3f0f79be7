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
from functools import partial
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

Numbered = Callable[[int, bytes, float], None]  # which stream, message, time.perf_counter()
Taken = Callable[[bytes, float], None]  # message, time.perf_counter()
Ended = Callable[[str], None]  # empty, or why it ended before its end


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


def headers(path: str, metadata: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the headers of a call."""
    plain = (
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "bench")),
        *(("content-type", "application/grpc"), ("te", "trailers"), *metadata),
    )
    return b"".join(_header(name, value) for name, value in plain)


@dataclass(frozen=True)
class Stream:
    """What is asked for on each stream."""

    path: str
    message: bytes
    metadata: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class _Reader:
    taken: Taken
    ended: Ended
    left: bytes = b""  # of a message that has not come whole


class Connection(asyncio.Protocol):
    """A connection on which calls are made, each answered by a stream of messages."""

    def __init__(self) -> None:
        self._buffer = b""
        self._readers: dict[int, _Reader] = {}
        self._next = 1
        self._lost = ""
        self._transport: asyncio.Transport

    @classmethod
    async def to(cls, address: str) -> Connection:
        """Connect."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(cls, host, int(port))
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        made = cast("asyncio.Transport", transport)  # uvloop's own is not derived from it
        self._transport = made
        window = struct.pack(">HI", 4, _LARGEST_WINDOW)
        whole = struct.pack(">I", _LARGEST_WINDOW - _FIRST_WINDOW)
        made.write(_PREFACE + frame(_SETTINGS, 0, 0, window) + frame(_WINDOW, 0, 0, whole))

    def call(self, head: bytes, message: bytes, taken: Taken, ended: Ended) -> None:
        """Begin a call; `taken` is told of each message, `ended` of the end."""
        if self._lost:
            raise ConnectionError(self._lost)
        stream, self._next = self._next, self._next + 2
        self._readers[stream] = _Reader(taken, ended)
        whole = b"\0" + len(message).to_bytes(4, "big") + message
        self._transport.write(
            frame(_HEADERS, _END_HEADERS, stream, head) + frame(_DATA, _END_STREAM, stream, whole)
        )

    def close(self) -> None:
        """Hang up."""
        self._readers.clear()
        self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._lose(f"the connection was cut: {error}")

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        for stream in tuple(self._readers):
            self._end(stream, self._lost)

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
                self._control(kind, flags, payload)
            if flags & _END_STREAM and kind in {_DATA, _HEADERS}:
                self._end(stream, "")
            elif kind == _RESET:
                self._end(stream, f"the stream was reset: {payload!r}")
            at = after
        self._buffer = buffer[at:]

    def _messages(self, stream: int, payload: bytes, now: float) -> None:
        reader = self._readers.get(stream)
        if reader is None:
            return
        left = reader.left + payload if reader.left else payload
        while len(left) >= _MESSAGE_HEAD:
            end = _MESSAGE_HEAD + int.from_bytes(left[1:_MESSAGE_HEAD], "big")
            if len(left) < end:
                break
            reader.taken(left[_MESSAGE_HEAD:end], now)
            left = left[end:]
        reader.left = left

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in {_PING, _SETTINGS} and not flags & _ACK:
            answer = payload if kind == _PING else b""
            self._transport.write(frame(kind, _ACK, 0, answer))
        elif kind == _GOAWAY:
            self._lose(f"the server goes away: {payload!r}")

    def _end(self, stream: int, problem: str) -> None:
        if (reader := self._readers.pop(stream, None)) is not None:
            reader.ended(problem)


@asynccontextmanager
async def streams(
    address: str, asked: Stream, count: int, taken: Numbered
) -> AsyncIterator[Callable[[], str]]:
    """Open streams and tell `taken` of each message; yields what tells of a stream that ended."""
    head = headers(asked.path, asked.metadata)
    held: list[Connection] = []
    problems: list[str] = []

    def ended(number: int, problem: str) -> None:
        problems.append(f"stream {number} ended {problem}")

    try:
        for number in range(count):
            if number % _STREAMS_OF_CONNECTION == 0:
                held.append(await Connection.to(address))
            held[-1].call(head, asked.message, partial(taken, number), partial(ended, number))
        yield lambda: problems[0] if problems else ""
    finally:
        for each in held:
            each.close()
