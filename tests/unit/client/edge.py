"""A small gRPC server in the place of a mesh: it speaks the contract and answers as a test says."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering_client import Gathering, Login

Answer = Callable[[Any], Awaitable[Message]]
Stream = Callable[[Any], AsyncGenerator[Message, None]]
LOGIN = "gathering.gateway.v1.AuthService.Login"
REFRESH = "gathering.gateway.v1.AuthService.Refresh"


@dataclass
class Refused(Exception):
    """What a method raises to end its call with this status."""

    code: StatusCode = StatusCode.UNAVAILABLE
    reason: str = ""
    message: str = "refused"
    fields: dict[str, str] = field(default_factory=dict)

    def status(self) -> bytes:
        """Return the details as they go over the wire."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        if self.reason:
            status.details.add().Pack(
                error_details_pb2.ErrorInfo(reason=self.reason, domain="gathering")
            )
        if self.fields:
            bad = error_details_pb2.BadRequest()
            for path, what in self.fields.items():
                bad.field_violations.add(field=path, description=what)
            status.details.add().Pack(bad)
        return bytes(status.SerializeToString())


@dataclass(frozen=True)
class Seen:
    """A call that came in."""

    method: str
    request: Any
    token: str


@dataclass
class Edge:
    """Methods by their full names, and the calls that came."""

    methods: dict[str, Answer | Stream] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    token_seconds: float = 900.0
    logins: int = 0

    def calls(self, method: str) -> list[Seen]:
        """Return the calls of one method, by its short name."""
        return [call for call in self.seen if call.method.rpartition(".")[2] == method]

    async def tokens(self, request: Any) -> Message:
        """Give tokens, each time others."""
        self.logins += 1
        tokens = auth.Tokens(access_token=f"t{self.logins}", refresh_token=f"r{self.logins}")
        tokens.expire_time.FromSeconds(int(time.time() + self.token_seconds))
        return tokens


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def service(self, details: Any) -> Any:
        name = details.method.strip("/").replace("/", ".")
        served = self._edge.methods.get(name)
        if served is None:
            return None
        method = descriptor_pool.Default().FindMethodByName(name)
        codec: dict[str, Any] = {
            "request_deserializer": GetMessageClass(method.input_type).FromString,
            "response_serializer": GetMessageClass(method.output_type).SerializeToString,
        }
        token = dict(details.invocation_metadata).get("authorization", "")
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(name, served, token), **codec)
        return grpc.unary_unary_rpc_method_handler(self._unary(name, served, token), **codec)

    def _unary(self, name: str, served: Any, token: str) -> Any:
        async def call(request: Any, context: Any) -> Message | None:
            self._edge.seen.append(Seen(name, request, token))
            try:
                answer: Message = await served(request)
            except Refused as refused:
                await _abort(context, refused)
                return None
            return answer

        return call

    def _stream(self, name: str, served: Any, token: str) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Message]:
            self._edge.seen.append(Seen(name, request, token))
            try:
                async for answer in served(request):
                    yield answer
            except Refused as refused:
                await _abort(context, refused)

        return call


async def _abort(context: Any, refused: Refused) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", refused.status()),))
    await context.abort(refused.code, refused.message)


@asynccontextmanager
async def connected(edge: Edge) -> AsyncIterator[Gathering]:
    """Serve on a free port and connect a client to it."""
    edge.methods.setdefault(LOGIN, edge.tokens)
    edge.methods.setdefault(REFRESH, edge.tokens)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(edge),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        login = Login("me@example.org", "correct horse")
        async with Gathering(f"http://127.0.0.1:{port}", login) as mesh:
            yield mesh
    finally:
        await server.stop(0)
