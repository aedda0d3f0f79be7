"""All RPCs of the contract, from the descriptors, and a way to call any of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.api import annotations_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

import gathering
from gathering_mesh.options import Rule, method_rule

Metadata = Sequence[tuple[str, str]]
OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True)
class Rpc:
    """One RPC."""

    method: MethodDescriptor

    @property
    def name(self) -> str:
        """Service and method, such as `AgentService.CreateAgent`."""
        return f"{self.method.containing_service.name}.{self.method.name}"

    @property
    def path(self) -> str:
        """The path of a gRPC call."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def part(self) -> str:
        """The service that serves it; `events`: each."""
        return str(self.method.containing_service.full_name.split(".")[1])

    @property
    def rule(self) -> Rule:
        """Who may call it."""
        return method_rule(self.method)

    @property
    def for_users(self) -> bool:
        """Whether a user may call it with a token."""
        return not self.rule.public and self.rule.admits(None)

    @property
    def mutation(self) -> bool:
        """Whether it takes a `request_id`."""
        return "request_id" in self.method.input_type.fields_by_name

    @property
    def routes(self) -> list[tuple[str, str]]:
        """HTTP verb and path of each route at the edge."""
        options = self.method.GetOptions()
        if not options.HasExtension(annotations_pb2.http):
            return []
        rule = options.Extensions[annotations_pb2.http]
        found = []
        for each in (rule, *rule.additional_bindings):
            verb = each.WhichOneof("pattern")
            found.append((verb, getattr(each, verb)))
        return found

    def request(self, **values: Any) -> Any:
        """Return a request."""
        return GetMessageClass(self.method.input_type)(**values)

    async def call(
        self,
        channel: grpc.aio.Channel,
        request: Message | bytes,
        metadata: Metadata = (),
        *,
        last: Callable[[Any], bool] = lambda message: False,
        timeout: float = 30.0,
    ) -> Answer:
        """Call it; a stream is read to its end, or to the message that `last` says is the last."""
        streams = self.method.server_streaming
        make: Any = channel.unary_stream if streams else channel.unary_unary
        call = make(
            self.path,
            request_serializer=_serialised,
            response_deserializer=GetMessageClass(self.method.output_type).FromString,
        )(request, metadata=tuple(metadata), timeout=timeout)
        messages: list[Message] = []
        try:
            if streams:
                async for message in call:
                    messages.append(message)
                    if last(message):
                        call.cancel()
                        break
            else:
                messages.append(await call)
        except grpc.aio.AioRpcError as error:
            return refusal(error, messages)
        return Answer("OK", messages=messages)


def _serialised(request: Message | bytes) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


@dataclass(frozen=True)
class Answer:
    """What came of a call: `status` is gRPC's name, `fields` what is wrong with which field."""

    status: str
    reason: str = ""
    text: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    @property
    def message(self) -> Any:
        """The (first) message of a call that went well."""
        assert self.status == "OK", self
        return self.messages[0]


def refusal(error: grpc.aio.AioRpcError, messages: list[Message]) -> Answer:
    """Return what an error's status and details say."""
    reason, fields = "", {}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                if detail.Unpack(info):
                    reason = info.reason
                elif detail.Unpack(bad):
                    fields = {each.field: each.description for each in bad.field_violations}
    return Answer(error.code().name, reason, error.details() or "", fields, messages)


def all_rpcs() -> list[Rpc]:
    """Return every RPC of every service in the contract."""
    return sorted(_found(), key=lambda rpc: rpc.path)


def _found() -> Iterator[Rpc]:
    for root in map(Path, gathering.__path__):
        for file in root.rglob("*_service_pb2.py"):
            name = ".".join(file.relative_to(root.parent).with_suffix("").parts)
            found = importlib.import_module(name).DESCRIPTOR.services_by_name.values()
            yield from (Rpc(method) for service in found for method in service.methods)


def strings(message: Message) -> Iterator[str]:
    """Yield all strings of a message, in the order of its fields, nested ones included."""
    for descriptor, value in message.ListFields():
        repeated = value if descriptor.is_repeated else (value,)
        if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            repeated = (*value, *value.values())
        for each in repeated:
            if isinstance(each, str):
                yield each
            elif isinstance(each, Message):
                yield from strings(each)


def is_text(descriptor: FieldDescriptor) -> bool:
    """Tell whether a field holds one string."""
    return descriptor.type == FieldDescriptor.TYPE_STRING and not descriptor.is_repeated


def is_ours(descriptor: FieldDescriptor) -> bool:
    """Tell whether a field holds one message of our own contract."""
    kind = descriptor.message_type
    return bool(kind and kind.full_name.startswith("gathering.") and not descriptor.is_repeated)
