"""The WebSocket as a door: one connection for each caller, its calls side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2

from gathering.gateway.v1 import websocket_pb2
from tests.e2e.doors import Heard, Refused
from tests.e2e.rpcs import Answer, Rpc
from tests.e2e.tenants import Tenant
from tests.support.websockets import Client, opened

_CALLS = {
    each.message_type.full_name: each.name
    for each in websocket_pb2.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields
    if each.message_type is not None
}
Frames = asyncio.Queue[dict[str, Any]]


@dataclass
class _Line:
    """One connection and who waits on it for which call."""

    client: Client
    waiting: dict[str, Frames] = field(default_factory=dict)
    stray: list[str] = field(default_factory=list)

    async def read(self) -> None:
        """Hand each frame to its call."""
        while True:
            frame = await self.client.receive()
            queue = self.waiting.get(frame["id"])
            if queue is None:  # a call that was left before its end
                self.stray.append(json.dumps(frame))
            else:
                queue.put_nowait(frame)


@dataclass
class WebSocket:
    """`/ws`."""

    address: str
    name: str = "websocket"
    lines: dict[str, _Line] = field(default_factory=dict)
    numbers: Any = field(default_factory=count)

    def serves(self, rpc: Rpc) -> bool:
        """Serve what frames can ask for."""
        return rpc.method.input_type.full_name in _CALLS

    async def follow(
        self, rpc: Rpc, request: Message, who: Tenant, heard: Heard
    ) -> AsyncGenerator[Message, None]:
        """Call."""
        line, id = self.lines[who.email], f"call {next(self.numbers)}"
        name, frames = (
            _CALLS[rpc.method.input_type.full_name],
            line.waiting.setdefault(id, Frames()),
        )
        asked = json_format.MessageToDict(request, preserving_proto_field_name=True)
        await line.client.send({"id": id, name: asked})
        ended = False
        try:
            while True:
                frame = await frames.get()
                heard.texts.append(json.dumps(frame))
                ended = "message" not in frame
                if "error" in frame:
                    raise Refused(_refusal(frame["error"]))
                if ended:
                    return
                answer = GetMessageClass(rpc.method.output_type)()
                yield json_format.ParseDict(frame["message"][name], answer)
        finally:
            del line.waiting[id]
            if not ended:
                await line.client.send({"id": id, "cancel": {}})


def _refusal(error: dict[str, Any]) -> Answer:
    reason = next((each["reason"] for each in error["details"] if "reason" in each), "")
    return Answer(code_pb2.Code.Name(error["code"]), reason, error["message"])


@asynccontextmanager
async def websockets(address: str, *callers: Tenant) -> AsyncGenerator[WebSocket, None]:
    """Open a connection for each caller."""
    door = WebSocket(address)
    reading: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        for who in callers:
            token = who.tokens.access_token
            client = await stack.enter_async_context(
                opened(address, token, max_size=None, ping_interval=None)
            )
            door.lines[who.email] = _Line(client)
            reading.append(asyncio.create_task(door.lines[who.email].read()))
        try:
            yield door
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
