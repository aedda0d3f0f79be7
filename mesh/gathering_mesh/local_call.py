"""A call of a process to itself: the server's own pipeline, without the way through gRPC.

Authentication, bounds, places, deadlines, errors and the log line are those of any call, since it
is the same pipeline; what is saved is the transport, for streams of many messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message

from gathering_mesh.routes import Unreadable
from gathering_mesh.streams import Encoded

Metadata = tuple[tuple[str, str], ...]
Answer = Message | Encoded
Handler = Callable[[object, Any], Awaitable[None]]


class LocalContext:
    """What the pipeline asks of gRPC; answers wait until they are taken."""

    def __init__(self, request: Message | Unreadable, metadata: Metadata) -> None:
        self.answers: asyncio.Queue[Answer | None] = asyncio.Queue(1)
        self._request = request
        self._metadata = metadata

    async def read(self) -> Message | Unreadable:
        """Return the request."""
        return self._request

    def invocation_metadata(self) -> Metadata:
        """Return what the caller sent beside it."""
        return self._metadata

    def time_remaining(self) -> None:
        """Return no deadline: a stream has none but its token's end."""

    def set_trailing_metadata(self, metadata: object) -> None:
        """Drop it: errors carry the request id themselves."""

    async def send_initial_metadata(self, metadata: object) -> None:
        """Send nothing: there is no transport."""

    async def write(self, answer: Answer) -> None:
        """Hand an answer over; returns when there is room for it."""
        await self.answers.put(answer)

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Any) -> NoReturn:
        """Raise what the caller would have got by gRPC."""
        trailing = grpc.aio.Metadata(*metadata)
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


async def stream(handler: Handler, context: LocalContext) -> AsyncGenerator[Answer, None]:
    """Yield the answers of a streaming call; grpc.aio.AioRpcError where it ends with an error."""
    task = asyncio.create_task(_served(handler, context))
    try:
        while (answer := await context.answers.get()) is not None:
            yield answer
        await task
    finally:
        task.cancel()
        while not context.answers.empty():  # or the end would wait for room
            context.answers.get_nowait()
        await asyncio.gather(task, return_exceptions=True)


async def _served(handler: Handler, context: LocalContext) -> None:
    """Run the handler; None stands behind its last answer."""
    try:
        await handler(None, context)
    finally:
        await context.answers.put(None)
