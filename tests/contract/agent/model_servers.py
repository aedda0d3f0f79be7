"""Local servers that speak the wire formats of model providers, scripted per test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
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

    events: Sequence[str] = ()
    status: int = 200
    error: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0  # between events
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
        if reply.status != 200:
            error = {"message": reply.error, "type": "error"}
            return JSONResponse(
                {"type": "error", "error": error}, reply.status, headers=reply.headers
            )
        return StreamingResponse(_body(reply, seen), media_type="text/event-stream")

    app = Starlette(routes=[Route(path, answer, methods=["POST"])])
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # not ours to take
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", seen
    finally:
        server.should_exit = True
        server.force_exit = True
        await task


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


# --- Anthropic: Messages API --------------------------------------------------------------------


def _sse(kind: str, data: Json) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"


def anthropic_events(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Json | str]] = (),
    *,
    stop: str | None = None,
    thinking: str = "",
    usage: tuple[int, int] = (10, 5),
    whole: bool = True,
) -> list[str]:
    """Return the events of one message; `whole=False` leaves its end out."""
    events = [_sse("message_start", {"message": _message_start(usage[0])}), _sse("ping", {})]
    index = 0
    if thinking:
        block: Json = {"type": "thinking", "thinking": "", "signature": ""}
        events += _block(index, block, [
            {"type": "thinking_delta", "thinking": thinking},
            {"type": "signature_delta", "signature": "signed"},
        ])  # fmt: skip
        index += 1
    if texts:
        deltas = [{"type": "text_delta", "text": text} for text in texts]
        events += _block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for place, (name, arguments) in enumerate(calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        half = len(text) // 2
        block = {"type": "tool_use", "id": f"toolu_{place}", "name": name, "input": {}}
        events += _block(index, block, [
            {"type": "input_json_delta", "partial_json": text[:half]},
            {"type": "input_json_delta", "partial_json": text[half:]},
        ])  # fmt: skip
        index += 1
    if whole:
        reason = stop or ("tool_use" if calls else "end_turn")
        delta = {"stop_reason": reason, "stop_sequence": None}
        events.append(_sse("message_delta", {"delta": delta, "usage": {"output_tokens": usage[1]}}))
        events.append(_sse("message_stop", {}))
    return events


def _message_start(input_tokens: int) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": input_tokens,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 1,
        },
    }


def _block(index: int, block: Json, deltas: Sequence[Json]) -> list[str]:
    return [
        _sse("content_block_start", {"index": index, "content_block": block}),
        *(_sse("content_block_delta", {"index": index, "delta": delta}) for delta in deltas),
        _sse("content_block_stop", {"index": index}),
    ]


# --- OpenAI: chat completions -------------------------------------------------------------------


def _chunk(delta: Json, finish: str | None = None, usage: Json | None = None) -> str:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "test",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(data)}\n\n"


def openai_events(
    texts: Sequence[str] = (),
    calls: Sequence[tuple[str, Json | str]] = (),
    *,
    finish: str | None = None,
    usage: tuple[int, int] = (10, 5),
    whole: bool = True,
) -> list[str]:
    """Return the chunks of one completion; `whole=False` leaves its end out."""
    events = [_chunk({"role": "assistant", "content": ""})]
    events += [_chunk({"content": text}) for text in texts]
    for place, (name, arguments) in enumerate(calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        half = len(text) // 2
        first = {"name": name, "arguments": ""}
        events.append(_call(place, {"id": f"x{place}", "type": "function", "function": first}))
        events += [_call(place, {"function": {"arguments": t}}) for t in (text[:half], text[half:])]
    if whole:
        events.append(_chunk({}, finish or ("tool_calls" if calls else "stop")))
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        counts["total_tokens"] = sum(usage)
        events.append(_chunk({}, usage=counts))
        events.append("data: [DONE]\n\n")
    return events


def _call(place: int, part: Json) -> str:
    return _chunk({"tool_calls": [{"index": place, **part}]})
