"""Calls the services for whoever opened a WebSocket: as that user, not as a service for them.

So a call has the rights that it has through the edge, no more and no fewer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gathering.agent.v1 import turn_service_pb2
from gathering.gateway.v1 import event_service_pb2
from gathering.gateway.v1 import websocket_pb2 as pb
from gathering.orchestrator.v1 import task_service_pb2
from gathering.skills.v1 import execution_service_pb2
from gathering_gateway.websocket import convert
from gathering_gateway.websocket.models import Visitor
from gathering_mesh.client import Channels, peer
from gathering_mesh.errors import DomainError, Unavailable
from gathering_mesh.local_call import Metadata
from gathering_mesh.pipeline import REQUEST_ID, TRACEPARENT
from gathering_mesh.streams import Encoded
from gathering_mesh.tokens import AUTHORIZATION

_FILES: tuple[FileDescriptor, ...] = (
    turn_service_pb2.DESCRIPTOR,
    event_service_pb2.DESCRIPTOR,
    task_service_pb2.DESCRIPTOR,
    execution_service_pb2.DESCRIPTOR,
)
_UNARY_SECONDS = 60.0
_OWN = "gateway"

Own = Callable[[str, bytes, Metadata], AsyncGenerator[Message | Encoded, None]]


@dataclass(frozen=True, slots=True)
class _Rpc:
    """The RPC of a call, and the part that serves it."""

    part: str
    path: str
    streamed: bool
    answer: type[Message]


class Services:
    """The services, as answers to frames."""

    def __init__(self, channels: Channels, own: Own) -> None:
        """Take the channels to peers; `own` calls a stream that this process serves itself."""
        self._channels = channels
        self._own = own
        self._texts = convert.Texts()

    async def answers(
        self, visitor: Visitor, id: str, request: pb.ClientFrame, request_id: str
    ) -> AsyncGenerator[str, None]:
        """Yield the frames that answer a call; the last is its end or an error."""
        name = request.WhichOneof("call") or ""
        rpc = _RPCS[name]
        call = self._call(rpc, _keyed(getattr(request, name), request_id), visitor, request_id)
        try:
            with peer(rpc.part):
                async with aclosing(call) as answers:
                    async for answer in answers:
                        yield self._texts.answer(id, name, answer)
        except DomainError as error:
            yield convert.error_text(id, error, request_id)
        else:
            yield convert.end_text(id)

    def _call(
        self, rpc: _Rpc, request: Message, visitor: Visitor, request_id: str
    ) -> AsyncGenerator[Message | Encoded, None]:
        metadata = (
            (AUTHORIZATION, f"Bearer {visitor.token}"),
            (REQUEST_ID, request_id),
            (TRACEPARENT, visitor.trace),
        )
        if rpc.part == _OWN:
            return self._own(rpc.path, request.SerializeToString(), metadata)
        return self._peer(rpc, request, metadata)

    async def _peer(
        self, rpc: _Rpc, request: Message, metadata: Metadata
    ) -> AsyncGenerator[Message | Encoded, None]:
        channel = self._channel(rpc.part)
        given: dict[str, Any] = {
            "request_serializer": type(request).SerializeToString,
            "response_deserializer": rpc.answer.FromString,
        }
        if not rpc.streamed:
            method = channel.unary_unary(rpc.path, **given)
            yield await method(request, metadata=metadata, timeout=_UNARY_SECONDS)
            return
        call = channel.unary_stream(rpc.path, **given)(request, metadata=metadata)
        try:
            async for answer in call:
                yield answer
        finally:
            call.cancel()

    def _channel(self, part: str) -> grpc.aio.Channel:
        try:
            return self._channels.to(part)
        except LookupError as error:
            raise Unavailable(f"{part} is not part of this mesh") from error


def _keyed(request: Message, request_id: str) -> Message:
    """Give a mutation a key where its caller gave none: the channel repeats calls that fail."""
    if getattr(request, "request_id", None) == "":
        request.request_id = request_id  # type: ignore[attr-defined]  # just seen
    return request


def _rpcs() -> Iterator[tuple[str, _Rpc]]:
    """Yield the RPC of each call that has one: the one that takes the call's message."""
    methods = [
        method
        for file in _FILES
        for service in file.services_by_name.values()
        for method in service.methods
    ]
    by_request = {_name_of(method.input_type): method for method in methods}
    for field in pb.ClientFrame.DESCRIPTOR.oneofs_by_name["call"].fields:
        method = by_request.get(_name_of(field.message_type))
        if method is not None:
            yield field.name, _rpc(method)


def _rpc(method: MethodDescriptor) -> _Rpc:
    assert method.output_type is not None  # noqa: S101 (for the type checker)
    service = method.full_name.rpartition(".")[0]
    return _Rpc(
        part=service.split(".")[1],
        path=f"/{service}/{method.name}",
        streamed=method.server_streaming,
        answer=GetMessageClass(method.output_type),
    )


def _name_of(message: Descriptor | None) -> str:
    return message.full_name if message is not None else ""


_RPCS = dict(_rpcs())
