"""One connection: reads frames, runs their calls side by side, and says goodbye."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, suppress

from gathering.gateway.v1 import websocket_pb2 as pb
from gathering_gateway.websocket import convert
from gathering_gateway.websocket.models import (
    DRAINING,
    IDLE,
    TOKEN_EXPIRED,
    Gone,
    Goodbye,
    Limits,
    Unusable,
    Visitor,
)
from gathering_gateway.websocket.ports import Answers, Socket
from gathering_mesh.call import Closing
from gathering_mesh.errors import AlreadyExists, Cancelled, Internal, ResourceExhausted

_log = logging.getLogger(__name__)


class Connection:
    """Serves a client until it leaves, or until the server has a reason to close."""

    def __init__(self, socket: Socket, visitor: Visitor, answers: Answers, limits: Limits) -> None:
        self._socket = socket
        self._visitor = visitor
        self._answers = answers
        self._limits = limits
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._used_at = time.monotonic()
        self.count = 0  # calls that were begun

    async def serve(self, draining: Closing) -> None:
        """Return when the connection has ended."""
        reading = asyncio.create_task(self._read())
        leaving = asyncio.create_task(self._leave(draining))
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                with suppress(TimeoutError, Gone):
                    async with asyncio.timeout(self._limits.goodbye_seconds):
                        await self._say(leaving.result())
        finally:
            tasks = {reading, leaving, *self._calls.values()}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not reading.cancelled():
            reading.result()

    async def _read(self) -> None:
        with suppress(Gone):
            while True:
                await self._take(await self._socket.receive())
                self._used_at = time.monotonic()

    async def _take(self, data: str | bytes) -> None:
        try:
            frame = convert.read_frame(data, self._limits.frame_bytes)
            if frame.HasField("cancel"):
                await self._cancel(frame.id)
            else:
                self._begin(frame)
        except Unusable as refused:
            await self._send(convert.error_text(refused.id, refused.error, self._request_id()))

    async def _cancel(self, id: str) -> None:
        running = self._calls.get(id)
        if running is None:
            return
        running.cancel()
        await asyncio.wait({running})
        if running.cancelled():  # and did not end by itself at this moment
            error = Cancelled("the client ended the call")
            await self._send(convert.error_text(id, error, self._request_id()))

    def _begin(self, frame: pb.ClientFrame) -> None:
        if frame.id in self._calls:
            # Not under this id, whose call goes on.
            raise Unusable("", AlreadyExists(f"a call with the id {frame.id!r} has not ended"))
        if len(self._calls) >= self._limits.calls:
            most = self._limits.calls
            full = ResourceExhausted(f"{most} calls of this connection have not ended")
            raise Unusable(frame.id, full)
        self.count += 1
        call = asyncio.create_task(self._run(frame, self._request_id()))
        call.add_done_callback(lambda _: self._ended(frame.id))
        self._calls[frame.id] = call

    def _ended(self, id: str) -> None:
        del self._calls[id]
        self._used_at = time.monotonic()

    async def _run(self, frame: pb.ClientFrame, request_id: str) -> None:
        answers = self._answers(self._visitor, frame.id, frame, request_id)
        try:
            async with aclosing(answers) as texts:
                async for text in texts:
                    await self._send(text)
        except Gone:
            return
        except Exception:
            _log.exception("a call over a WebSocket failed: request_id=%s", request_id)
            error = Internal(f"internal error; its request id is {request_id}")
            with suppress(Gone):
                await self._send(convert.error_text(frame.id, error, request_id))

    async def _send(self, text: str) -> None:
        async with self._sending:
            await self._socket.send(text)

    def _request_id(self) -> str:
        return f"{self._visitor.request_id}.{self.count}"

    async def _leave(self, draining: Closing) -> Goodbye:
        """Return once there is a reason to close."""
        told = asyncio.create_task(draining.wait())
        try:
            while True:
                expires = self._visitor.expires_at - time.time()
                await asyncio.wait({told}, timeout=max(0.0, min(expires, self._quiet_left())))
                if told.done():
                    return DRAINING
                if self._visitor.expires_at <= time.time():
                    await self._calls_end()
                    return TOKEN_EXPIRED
                if self._quiet_left() <= 0:
                    return IDLE
        finally:
            told.cancel()

    def _quiet_left(self) -> float:
        idle = self._limits.idle_seconds
        return idle if self._calls else self._used_at + idle - time.monotonic()

    async def _calls_end(self) -> None:
        """Wait a moment for streams: services end them with frames to resume from."""
        if self._calls:
            await asyncio.wait(self._calls.values(), timeout=self._limits.goodbye_seconds)

    async def _say(self, goodbye: Goodbye) -> None:
        if goodbye.resume:
            await self._send(convert.reconnect_text(goodbye.reason))
        async with self._sending:
            await self._socket.close(goodbye.code, goodbye.reason)
