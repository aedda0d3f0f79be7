"""The doors of the feed as one thing: what comes through each, as the same few fields."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import httpx
from websockets.exceptions import WebSocketException

from gathering.gateway.v1 import event_service_pb2 as pb
from gathering.gateway.v1.auth_service_pb2 import Tokens
from gathering.gateway.v1.event_service_pb2_grpc import EventServiceStub
from gathering_client import Gathering
from gathering_client.streams import Followed, Patience, follow_events
from gathering_mesh.client import CHANNEL_OPTIONS
from tests.support.gateway import bearer
from tests.support.websockets import opened

Json = dict[str, Any]
# Reading the system's certificates for each connection would take longer than all the rest.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of the feed; `place` and `about` are those of an event."""

    kind: str
    cursor: str
    source: str = ""
    epoch: str = ""
    position: int = 0
    about: str = ""
    reason: str = ""


class Door(Protocol):
    """One try at a stream of frames: it ends, or raises one of `CUT`, when it was cut."""

    def __call__(self, port: int, tokens: Tokens, cursor: str) -> AsyncGenerator[Frame, None]:
        """Subscribe at the edge's port, from a cursor on."""


# What a client is told when a connection breaks under it.
CUT = (grpc.aio.AioRpcError, httpx.TransportError, WebSocketException, OSError)


async def by_grpc(port: int, tokens: Tokens, cursor: str) -> AsyncGenerator[Frame, None]:
    """Read by gRPC, on a channel of its own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        stub: Any = EventServiceStub(channel)
        stream = stub.Subscribe(pb.SubscribeRequest(cursor=cursor), metadata=bearer(tokens))
        try:
            async for answer in stream:
                yield of_message(answer)
        finally:
            stream.cancel()


async def by_sse(port: int, tokens: Tokens, cursor: str) -> AsyncGenerator[Frame, None]:
    """Read server-sent events."""
    headers = {"authorization": f"Bearer {tokens.access_token}", "accept": "text/event-stream"}
    query = {"cursor": cursor}
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=_NO_AUTHORITIES
        ) as http,
        http.stream(
            "GET", "/v1/events:subscribe", headers=headers, params=query, timeout=20
        ) as answer,
    ):
        assert answer.status_code == httpx.codes.OK, await answer.aread()
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                yield of_json(json.loads(line.removeprefix("data:")))


async def by_websocket(port: int, tokens: Tokens, cursor: str) -> AsyncGenerator[Frame, None]:
    """Read by a WebSocket."""
    # Without pings of its own: their answers wait behind all that a slow reader has not read yet.
    async with opened(f"127.0.0.1:{port}", tokens.access_token, ping_interval=None) as client:
        await client.send({"id": "feed", "subscribe": {"cursor": cursor}})
        while "message" in (frame := await client.receive()):
            yield of_json(frame["message"]["subscribe"])


@dataclass(frozen=True)
class Given:
    """Credentials of somebody who logged in elsewhere."""

    held: Tokens

    async def tokens(self, _: object) -> Tokens:
        return self.held


async def by_client(port: int, tokens: Tokens, cursor: str) -> AsyncGenerator[Frame, None]:
    """Read by the Python client, which goes on by itself: its stream is never cut."""
    async with Gathering(f"http://127.0.0.1:{port}", Given(tokens)) as mesh:
        patience = Patience(tries=50, first_pause=0.01, longest_pause=0.2)
        stream = follow_events(mesh, cursor=cursor, checkpoints=True, patience=patience)
        async with aclosing(stream) as found:
            async for followed in found:
                yield _of_followed(followed)


def _of_followed(followed: Followed) -> Frame:
    event = followed.event
    if event is None:
        source, _, reason = followed.gap.partition(": ")
        kind = "gap" if followed.gap else "checkpoint"
        return Frame(kind, followed.cursor, source=source, reason=reason)
    place = (event.source, event.epoch, event.position)
    return Frame("event", followed.cursor, *place, event.aggregate_id)


def of_message(answer: pb.SubscribeResponse) -> Frame:
    """Return a frame of the contract."""
    kind = str(answer.WhichOneof("frame"))
    content = getattr(answer, kind)
    if kind != "event":
        told = (getattr(content, "source", ""), getattr(content, "reason", ""))
        return Frame(kind, content.cursor, source=told[0], reason=told[1])
    event = content.event
    place = (event.source, event.epoch, event.position)
    return Frame(kind, content.cursor, *place, event.aggregate_id)


def of_json(answer: Json) -> Frame:
    """Return a frame of the contract, from its JSON."""
    [(kind, content)] = answer.items()
    told = {name: content.get(name, "") for name in ("source", "reason")}
    if kind != "event":
        return Frame(kind, content["cursor"], **told)
    event = content["event"]
    place = (event["source"], event["epoch"], int(event["position"]))
    return Frame(kind, content["cursor"], *place, event["aggregate_id"])
