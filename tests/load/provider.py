"""A local server that speaks a provider's protocol and takes its time: chat completions by SSE."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

CHUNKS = 10  # of an answer, in equal pauses
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
)
_END_OF_HEAD = b"\r\n\r\n"


def seconds_of(model: str) -> float:
    """Return how long a model takes: its name ends in milliseconds."""
    return float(model.rpartition("-")[2]) / 1000


@asynccontextmanager
async def provider() -> AsyncIterator[Mapping[str, Any]]:
    """Serve until the context ends."""
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, backlog=1024)
    async with server:
        yield {"port": server.sockets[0].getsockname()[1]}


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await _answer(writer, json.loads(await _body(reader)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(_END_OF_HEAD)).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


async def _answer(writer: asyncio.StreamWriter, asked: Mapping[str, Any]) -> None:
    pause = seconds_of(asked["model"]) / CHUNKS
    writer.write(_HEAD)
    for number in range(CHUNKS):
        await asyncio.sleep(pause)
        writer.write(_event({"content": f"word{number} "}))
    writer.write(_event({}, finish="stop"))
    writer.write(_chunk(b"data: [DONE]\n\n") + _chunk(b""))


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
