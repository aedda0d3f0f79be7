"""Pair the RPCs of a contract with the methods of a servicer, each with what the pipeline needs."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gathering_mesh.call import Call, RequestKey
from gathering_mesh.errors import DomainError, InvalidArgument, ResourceExhausted
from gathering_mesh.options import ContractError, Rule, method_rule
from gathering_mesh.streams import Encoded
from gathering_mesh.validation import Validator

Unary = Callable[[Any, Call], Awaitable[Message]]
Stream = Callable[[Any, Call], AsyncGenerator[Message | Encoded, None]]
_KEY = "request_id"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a request whose bytes are refused; the pipeline tells the caller why."""

    error: DomainError


@dataclass(frozen=True, slots=True)
class Route:
    """One RPC and the method that serves it; exactly one of `unary` and `stream` is set."""

    name: str
    method: str  # gathering.memory.v1.MemoryService.Remember
    rule: Rule
    read: Callable[[bytes], Message | Unreadable]
    response: type[Message]
    unary: Unary | None
    stream: Stream | None
    keyed: bool

    def key(self, request: Message) -> RequestKey | None:
        """Return the idempotency key of a request, None where the caller gave none."""
        if not self.keyed:
            return None
        request_id: str = getattr(request, _KEY)
        if not request_id:
            return None
        rest = type(request)()
        rest.CopyFrom(request)
        rest.ClearField(_KEY)
        digest = hashlib.sha256(rest.SerializeToString(deterministic=True)).digest()
        return RequestKey(self.method, request_id, digest)


def routes(
    service: ServiceDescriptor, servicer: object, validator: Validator, message_bytes: int
) -> Iterator[Route]:
    """Yield the routes of a service; ContractError where the servicer does not fit the contract."""
    for method in service.methods:
        if method.client_streaming:
            raise ContractError(f"{method.full_name} streams from the client, which is not served")
        if method.input_type is None or method.output_type is None:
            raise ContractError(f"{method.full_name} has no types")
        validator.prepare(method.input_type)
        handler = _handler(method, servicer)
        field = method.input_type.fields_by_name.get(_KEY)
        yield Route(
            name=method.name,
            method=method.full_name,
            rule=method_rule(method),
            read=reader(GetMessageClass(method.input_type), message_bytes),
            response=GetMessageClass(method.output_type),
            unary=None if method.server_streaming else handler,
            stream=handler if method.server_streaming else None,
            keyed=field is not None and field.type == FieldDescriptor.TYPE_STRING,
        )


def _handler(method: MethodDescriptor, servicer: object) -> Any:
    handler = getattr(servicer, method.name, None)
    kind = inspect.isasyncgenfunction if method.server_streaming else inspect.iscoroutinefunction
    if not kind(handler):
        wanted = "an async generator" if method.server_streaming else "a coroutine function"
        raise ContractError(
            f"{type(servicer).__name__}.{method.name} must be {wanted} to serve {method.full_name}"
        )
    return handler


def reader(request: type[Message], limit: int) -> Callable[[bytes], Message | Unreadable]:
    """Return a deserialiser that never raises: gRPC would answer UNKNOWN without a reason."""

    def read(data: bytes) -> Message | Unreadable:
        if len(data) > limit:
            return Unreadable(
                ResourceExhausted(
                    f"the message has {len(data)} bytes; at most {limit} are allowed",
                    reason="MESSAGE_TOO_LARGE",
                )
            )
        try:
            return request.FromString(data)
        except Exception as error:
            return Unreadable(_malformed(request, error))

    return read


def _malformed(request: type[Message], error: Exception) -> InvalidArgument:
    refused = InvalidArgument(
        f"the bytes are no {request.DESCRIPTOR.name}", reason="MALFORMED_REQUEST"
    )
    refused.__cause__ = error
    return refused
