"""The doors of the edge, each as a way to make any call of the contract.

Whatever a door gives back is kept as it came, headers and trailers too: a leak may be in any of it.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, unquote

import grpc
import httpx
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2

from tests.e2e.rpcs import Answer, Rpc, refusal, strings
from tests.e2e.tenants import Tenant

_VARIABLE = re.compile(r"{([\w.]+)}")
_PRINT: dict[str, Any] = {"preserving_proto_field_name": True}


@dataclass
class Heard:
    """All that came back, as text."""

    texts: list[str] = field(default_factory=list)

    def message(self, message: Message) -> None:
        """Keep a message: its bytes and each string of it."""
        self.texts += [message.SerializeToString().decode("latin-1"), *strings(message)]

    def pairs(self, pairs: Any) -> None:
        """Keep headers or trailers."""
        for key, value in pairs or ():
            kept = value.decode("latin-1") if isinstance(value, bytes) else value
            self.texts.append(f"{key}: {kept}")


class Refused(Exception):
    """A call that was refused; `answer` says how."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer))
        self.answer = answer


class Door(Protocol):
    """A way in."""

    @property
    def name(self) -> str:
        """Return what to call it."""

    def serves(self, rpc: Rpc) -> bool:
        """Tell whether this call can be made here."""

    def follow(
        self, rpc: Rpc, request: Message, who: Tenant, heard: Heard
    ) -> AsyncGenerator[Message, None]:
        """Make a call and yield its messages; Refused where it ends with an error."""


async def ask(
    door: Door,
    rpc: Rpc,
    request: Message,
    who: Tenant,
    last: Callable[[Any], bool] = lambda message: False,
) -> tuple[Answer, Heard]:
    """Make a call; a stream is read to its end or to the message that is the last."""
    heard, messages = Heard(), []
    try:
        async with aclosing(door.follow(rpc, request, who, heard)) as found:
            async for message in found:
                messages.append(message)
                if last(message):
                    break
    except Refused as error:
        return error.answer, heard
    return Answer("OK", messages=messages), heard


@dataclass(frozen=True)
class Grpc:
    """gRPC, over one HTTP/2 connection for all callers."""

    channel: grpc.aio.Channel
    seconds: float = 60.0
    name: str = "grpc"

    def serves(self, rpc: Rpc) -> bool:
        """Serve everything."""
        return True

    async def follow(
        self, rpc: Rpc, request: Message, who: Tenant, heard: Heard
    ) -> AsyncGenerator[Message, None]:
        """Call."""
        streams = rpc.method.server_streaming
        make: Any = self.channel.unary_stream if streams else self.channel.unary_unary
        call = make(
            rpc.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(rpc.method.output_type).FromString,
        )(request, metadata=who.headers, timeout=None if streams else self.seconds)
        try:
            heard.pairs(await call.initial_metadata())
            if not streams:
                message = await call
                heard.message(message)
                yield message
            else:
                async for message in call:
                    heard.message(message)
                    yield message
            heard.pairs(await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            heard.pairs(error.trailing_metadata())
            heard.texts.append(error.details() or "")
            raise Refused(refusal(error, [])) from error
        finally:
            call.cancel()


@dataclass(frozen=True)
class Rest:
    """JSON over HTTP/1.1; `accept` chooses the form of streams."""

    http: httpx.AsyncClient
    name: str = "rest"
    accept: str = "application/json"

    def serves(self, rpc: Rpc) -> bool:
        """Serve what has a route; a form of streams only streams."""
        return bool(rpc.routes) and rpc.method.server_streaming == (self.name != "rest")

    async def follow(
        self, rpc: Rpc, request: Message, who: Tenant, heard: Heard
    ) -> AsyncGenerator[Message, None]:
        """Call."""
        headers = dict(who.headers) | {"accept": self.accept}
        verb, path, body = _transcoded(rpc, request)
        options: dict[str, Any] = {"json": body} if body is not None else {}
        async with self.http.stream(verb, path, headers=headers, **options) as answer:
            heard.pairs(answer.headers.items())
            if answer.status_code != httpx.codes.OK:
                heard.texts.append((await answer.aread()).decode())
                raise Refused(_json_refusal(json.loads(heard.texts[-1])))
            async for text in _json_texts(answer, lines=rpc.method.server_streaming):
                heard.texts.append(text)
                yield json_format.Parse(text, GetMessageClass(rpc.method.output_type)())


async def _json_texts(answer: httpx.Response, *, lines: bool) -> AsyncGenerator[str, None]:
    """Yield the messages of an answer: one, or one in a line."""
    if not lines:
        yield (await answer.aread()).decode()
        return
    async for line in answer.aiter_lines():
        if line.strip():
            yield line.removeprefix("data:")


def _json_refusal(body: dict[str, Any]) -> Answer:
    """Return what JSON says of an error."""
    reason, fields = "", {}
    for detail in body.get("details", ()):
        reason = detail.get("reason") or reason
        for each in detail.get("field_violations") or detail.get("fieldViolations") or ():
            fields[each["field"]] = each["description"]
    return Answer(code_pb2.Code.Name(body["code"]), reason, body.get("message", ""), fields)


def _transcoded(rpc: Rpc, request: Message) -> tuple[str, str, Any]:
    """Return verb, path with query, and body of a call by REST."""
    rule = rpc.method.GetOptions().Extensions[annotations_pb2.http]
    verb, template = rpc.routes[0]
    document = json_format.MessageToDict(request, **_PRINT)
    path = _VARIABLE.sub(
        lambda found: quote(str(_taken(document, found[1], request)), safe=""), template
    )
    if rule.body == "*":
        return verb.upper(), path, document
    body = document.pop(rule.body, {}) if rule.body else None
    query = "&".join(f"{name}={quote(value)}" for name, value in _flat(document))
    return verb.upper(), f"{path}?{query}" if query else path, body


def _taken(document: dict[str, Any], name: str, request: Message) -> Any:
    """Take a value out of the document, which leaves out what is 0 or empty."""
    head, _, rest = name.partition(".")
    value = getattr(request, head)
    return _taken(document[head], rest, value) if rest else document.pop(head, value)


def _flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _flat(each, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", str(each).lower() if each is True else str(each)


@dataclass(frozen=True)
class GrpcWeb:
    """gRPC-Web over HTTP/1.1, as browsers have it."""

    http: httpx.AsyncClient
    name: str = "grpc-web"

    def serves(self, rpc: Rpc) -> bool:
        """Serve everything."""
        return True

    async def follow(
        self, rpc: Rpc, request: Message, who: Tenant, heard: Heard
    ) -> AsyncGenerator[Message, None]:
        """Call."""
        data = request.SerializeToString()
        kind = "application/grpc-web+proto"
        headers = dict(who.headers) | {"content-type": kind, "x-grpc-web": "1"}
        content = b"\0" + len(data).to_bytes(4, "big") + data
        async with self.http.stream("POST", rpc.path, headers=headers, content=content) as answer:
            heard.pairs(answer.headers.items())
            _web_end(dict(answer.headers))
            async for flags, body in _web_frames(answer):
                if flags & 128:
                    heard.texts.append(body.decode())
                    _web_end(_trailers(body.decode()))
                    return
                message = GetMessageClass(rpc.method.output_type).FromString(body)
                heard.message(message)
                yield message
        raise AssertionError(f"{rpc.name} was cut")


async def _web_frames(answer: httpx.Response) -> AsyncGenerator[tuple[int, bytes], None]:
    rest = b""
    async for chunk in answer.aiter_bytes():
        rest += chunk
        while len(rest) >= 5 and len(rest) >= 5 + (size := int.from_bytes(rest[1:5], "big")):
            yield rest[0], rest[5 : 5 + size]
            rest = rest[5 + size :]


def _trailers(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.split("\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


def _web_end(trailers: dict[str, str]) -> None:
    code = trailers.get("grpc-status", "0")
    if code != "0":
        raise Refused(_details_refusal(int(code), trailers))


def _details_refusal(code: int, trailers: dict[str, str]) -> Answer:
    """Return what trailers in text say of an error."""
    packed = trailers.get("grpc-status-details-bin", "")
    details = b64decode(packed + "=" * (-len(packed) % 4))
    return refused_as(code, unquote(trailers.get("grpc-message", "")), details)


def refused_as(code: int, text: str, details: bytes) -> Answer:
    """Return an error of its parts."""
    error = grpc.aio.AioRpcError(
        next(each for each in grpc.StatusCode if each.value[0] == code),
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", details)),
        details=text,
    )
    return refusal(error, [])


@asynccontextmanager
async def http_client(url: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    """Open an HTTP client with few connections, so that callers take turns on each."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=8)
    async with httpx.AsyncClient(
        base_url=url, timeout=httpx.Timeout(60, read=None), limits=limits, trust_env=False
    ) as client:
        yield client
