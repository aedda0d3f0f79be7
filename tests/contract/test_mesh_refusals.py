"""What a server refuses before a handler runs, and what it refuses to serve at all."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.protobuf.message import Message

from gathering_mesh.call import Call
from gathering_mesh.client import peer
from gathering_mesh.errors import (
    InvalidArgument,
    ResourceExhausted,
    Unauthenticated,
)
from gathering_mesh.options import ContractError
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.support.probe import (
    SERVICE,
    Authority,
    Probe,
    contract,
    headers,
    raised,
    response,
    running,
)

MALFORMED = {
    "invalid_utf8": b"\x12\x02\xc3\x28",
    "truncated": b"\x12\x40abc",
    "bad_tag": b"\x07\x01",
    "endless_varint": b"\x38" + b"\xff" * 11,
    "group_that_never_ends": b"\x13",
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_broken_bytes_are_an_invalid_argument_with_a_reason(kind: str) -> None:
    async with running() as run:
        with pytest.raises(InvalidArgument) as caught, peer("probe"):
            await run.unary("Echo", raw=True)(
                MALFORMED[kind], metadata=headers(user=run.authority.user()), timeout=20
            )
        assert caught.value.reason == "MALFORMED_REQUEST"
        assert not run.probe.calls
        assert await run.echo(), "the server goes on"


@pytest.mark.parametrize("rpc", ["Echo", "Watch"])
async def test_call_that_ends_before_its_request_is_answered(rpc: str) -> None:
    async with running() as run:
        call: Any = run.channel.stream_unary(f"/{SERVICE}/{rpc}")
        with pytest.raises(InvalidArgument) as caught, peer("probe"):
            await call(iter(()), metadata=headers(user=run.authority.user()), timeout=20)
        assert caught.value.reason == "MALFORMED_REQUEST"
        assert not run.probe.calls


async def test_json_nested_beyond_the_parser_is_refused() -> None:
    inner = b""
    for _ in range(200):  # Struct{fields{key "a", value{struct_value}}} around itself
        value = b"\x2a" + _sized(inner)
        entry = b"\x0a\x01a\x12" + _sized(value)
        inner = b"\x0a" + _sized(entry)
    async with running() as run:
        with pytest.raises(InvalidArgument), peer("probe"):
            await run.unary("Echo", raw=True)(
                b"\x12\x01x\x72" + _sized(inner),
                metadata=headers(user=run.authority.user()),
                timeout=20,
            )


def _sized(data: bytes) -> bytes:
    length, size = len(data), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*size, length]) + data


async def test_json_deeper_than_the_bound_is_refused_by_path() -> None:
    top = struct_pb2.Struct()
    inner = top
    for _ in range(25):
        inner = inner.fields["a"].struct_value
    inner.fields["a"].bool_value = True
    async with running() as run:
        error = await raised(run, arguments=top)
    assert "is nested deeper than 20 levels" in next(iter(error.fields.values()))


async def test_unauthenticated_broken_bytes_are_unauthenticated() -> None:
    async with running() as run:
        with pytest.raises(Unauthenticated), peer("probe"):
            await run.unary("Echo", raw=True)(b"\x12\x40abc", timeout=20)


async def test_message_above_the_checked_limit_is_told_so() -> None:
    async with running() as run:
        error = await raised(run, blob=b"x" * 5_000_000)
        assert isinstance(error, ResourceExhausted)
        assert error.reason == "MESSAGE_TOO_LARGE"
        assert "at most 4194304 are allowed" in error.message


async def test_message_above_the_transport_limit_is_refused() -> None:
    async with running(message_bytes=1) as run:
        error = await raised(run, blob=b"x" * 20_000_000)
        assert isinstance(error, ResourceExhausted)


async def test_wrong_fields_are_told_with_their_paths() -> None:
    async with running() as run:
        error = await raised(run, text="", page_size=-1)
    assert isinstance(error, InvalidArgument)
    assert error.reason == "INVALID_FIELD"
    assert error.fields == {"text": "is required", "page_size": "must be at least 0"}
    assert not run.probe.calls


async def test_unknown_enum_number_is_refused_over_the_wire() -> None:
    async with running() as run:
        error = await raised(run, colour=77)
    assert error.fields == {"colour": "77 is no value of Colour"}


def test_servicer_without_a_method_is_refused_at_once() -> None:
    server = GrpcServer(ServerSettings(), Authority().authenticator())
    with pytest.raises(ContractError, match="must be a coroutine function to serve"):
        server.add(contract().services_by_name["ProbeService"], object())


def test_method_of_the_wrong_kind_is_refused_at_once() -> None:
    class Wrong(Probe):
        async def Watch(self, request: Any, call: Call) -> Message:  # type: ignore[override]
            return response("x")

    server = GrpcServer(ServerSettings(), Authority().authenticator())
    with pytest.raises(ContractError, match="must be an async generator"):
        server.add(contract().services_by_name["ProbeService"], Wrong())


def test_rpc_without_a_rule_is_refused_at_once() -> None:
    server = GrpcServer(ServerSettings(), Authority().authenticator())
    with pytest.raises(ContractError, match="has no access rule"):
        server.add(contract().services_by_name["UnruledService"], Probe())
