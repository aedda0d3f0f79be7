"""A local HTTP server that answers as a script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Json = dict[str, Any]


@dataclass
class Reply:
    """What the server says to one request: `events` as they go over the wire, or an error."""

    events: Iterable[str] = ()
    status: int = 200
    error: str = ""
    code: str | None = None  # as OpenAI names it
    body: Json = field(default_factory=dict)  # of the error; in the form of both, if not given
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0  # between events
    silent: bool = False  # answer nothing at all, until the client is gone
    hang: bool = False  # say nothing more after the events, until the client is gone
    cut: bool = False  # close the connection without the end of the body


@dataclass
class Seen:
    """What a server was asked."""

    requests: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    streaming: asyncio.Event = field(default_factory=asyncio.Event)
    disconnected: asyncio.Event = field(default_factory=asyncio.Event)


Script = Callable[[Json], Reply]


class Cut(Exception):
    """Raised inside a response to break its connection off."""


@asynccontextmanager
async def serving(path: str, script: Script) -> AsyncIterator[tuple[str, Seen]]:
    """Serve a script at a path; yield the base address and what was seen."""
    seen = Seen()

    async def answer(request: Request) -> Response:
        body = await request.json()
        seen.requests.append(body)
        seen.headers.append(dict(request.headers))
        reply = script(body)
        if reply.silent:
            await _gone(request)
        if reply.status != 200:
            error = {"message": reply.error, "type": "error", "code": reply.code}
            body = reply.body or {"type": "error", "error": error}
            return JSONResponse(body, reply.status, headers=reply.headers)
        return StreamingResponse(_body(reply, seen), media_type="text/event-stream")

    app = Starlette(routes=[Route(path, answer, methods=["POST"])])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    server.force_exit = True  # who still streams is not waited for
    await server.startup()  # without the loop of `serve`, which ticks ten times a second
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", seen
    finally:
        for task in server.server_state.tasks:
            task.cancel()
        await server.shutdown()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(reply: Reply, seen: Seen) -> AsyncIterator[str]:
    try:
        for event in reply.events:
            yield event
            seen.streaming.set()
            if reply.pause:
                await asyncio.sleep(reply.pause)
        if reply.cut:
            raise Cut
        if reply.hang:
            await asyncio.Event().wait()
    except (asyncio.CancelledError, GeneratorExit):
        seen.disconnected.set()
        raise
