"""A local server that speaks a provider's protocol and takes its time: chat completions by SSE.

What it sends is made beforehand and goes out on timers, so that it costs next to nothing beside who
is measured. The first piece of an answer tells when it was sent, by a clock that all processes of
the machine share.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

CHUNKS = 10  # of an answer, in equal pauses
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
)
_END_OF_HEAD = b"\r\n\r\n"
_CLOCK = "0" * 16  # stands where the first piece tells its time


def seconds_of(model: str) -> float:
    """Return how long a model takes: its name ends in milliseconds."""
    return float(model.rpartition("-")[2]) / 1000


def sent_at(text: str) -> float:
    """Return when (`time.perf_counter`) the provider sent the first piece of an answer."""
    return float(text.split(maxsplit=1)[0])


@asynccontextmanager
async def provider() -> AsyncIterator[Mapping[str, Any]]:
    """Serve until the context ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Peer, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield {"port": server.sockets[0].getsockname()[1]}


class _Peer(asyncio.Protocol):
    """A connection of a client; one answer at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not derived from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(_END_OF_HEAD)
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = b""
            self._answer(seconds_of(json.loads(body[:length])["model"]))

    def _answer(self, seconds: float) -> None:
        self._transport.write(_HEAD)
        begun = self._loop.time()
        for number in range(1, CHUNKS + 1):
            self._loop.call_at(begun + seconds * number / CHUNKS, self._send, number)

    def _send(self, number: int) -> None:
        if number == 1:
            now = f"{time.perf_counter():016.6f}"
            self._transport.write(_FIRST.replace(_CLOCK.encode(), now.encode()))
        else:
            self._transport.write(_LAST if number == CHUNKS else _NEXT)


def _event(delta: Mapping[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    event = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **({"usage": usage} if finish else {}),
    }
    return _chunk(f"data: {json.dumps(event)}\n\n".encode())


def _chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


_FIRST = _event({"content": f"{_CLOCK} "})
_NEXT = _event({"content": "some words "})
_LAST = _NEXT + _event({}, finish="stop") + _chunk(b"data: [DONE]\n\n") + _chunk(b"")
