"""What a server of the mesh does with calls of all kinds, seen from outside through a real port."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf import struct_pb2
from google.protobuf.message import Message

from gathering_mesh import telemetry
from gathering_mesh.call import Call
from gathering_mesh.client import peer
from gathering_mesh.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from gathering_mesh.options import ContractError
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from gathering_mesh.streams import until_closing
from gathering_mesh.tokens import ActorSigner
from tests.support.probe import (
    Authority,
    Probe,
    Running,
    contract,
    headers,
    request,
    response,
    running,
    until,
)

MALFORMED = {
    "invalid_utf8": b"\x12\x02\xc3\x28",
    "truncated": b"\x12\x40abc",
    "bad_tag": b"\x07\x01",
    "endless_varint": b"\x38" + b"\xff" * 11,
    "group_that_never_ends": b"\x13",
}


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """Take what is logged."""
    out = io.StringIO()
    telemetry.configure("probe", "debug", as_json=True, stream=out)
    yield out
    structlog.reset_defaults()


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """Return what was logged."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def raised(run: Running, **fields: Any) -> DomainError:
    """Call Echo and return the error that it gives."""
    with pytest.raises(DomainError) as caught, peer("probe"):
        await run.echo(request(**fields))
    return caught.value


def fail(error: BaseException) -> Any:
    """Return a handler that raises."""

    async def handler(_: Any, __: Call) -> Message:
        raise error

    return handler


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


@pytest.mark.parametrize(
    "base",
    [
        Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition,
        InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated,
        Unavailable,
    ],
)  # fmt: skip
async def test_error_crosses_the_wire_whole(base: type[DomainError]) -> None:
    sent = base(
        "größer als erlaubt",
        reason="QUOTA_EXCEEDED",
        fields={"a.b[0]": "is wrong"},
        metadata={"resource": "x"},
        retry_after=1.5,
    )
    async with running() as run:
        run.probe.on_call = fail(sent)
        got = await raised(run)
    assert type(got) is base
    assert (got.message, got.reason, got.retry_after) == (sent.message, sent.reason, 1.5)
    assert got.fields == sent.fields
    assert got.metadata["resource"] == "x"
    assert got.metadata["request_id"].startswith("req_")


async def test_error_with_very_many_words_still_arrives() -> None:
    many = {f"field_{number}": "wrong " * 100 for number in range(500)}
    async with running() as run:
        run.probe.on_call = fail(InvalidArgument("x" * 100_000, fields=many))
        got = await raised(run)
    assert isinstance(got, InvalidArgument)
    assert "field_0" in got.fields


async def test_unknown_exception_hides_its_details_and_logs_them(log: io.StringIO) -> None:
    async with running() as run:
        run.probe.on_call = fail(RuntimeError("the password is swordfish"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await run.echo()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "swordfish" not in repr(caught.value)
    (line,) = [line for line in lines(log) if line.get("status") == "INTERNAL"]
    assert line["request_id"] in str(caught.value.details())
    assert "swordfish" in line["exception"]
    assert line["level"] == "error"


@pytest.mark.parametrize("answer", [None, "text"])
async def test_answer_of_another_type_is_our_fault(answer: Any, log: io.StringIO) -> None:
    async def handler(_: Any, __: Call) -> Any:
        return answer

    async with running() as run:
        run.probe.on_call = handler
        error = await raised(run)
    assert isinstance(error, Internal)
    assert "ProbeService.Echo answered" in log.getvalue()


async def test_cancellation_inside_a_handler_is_our_fault_and_no_hang() -> None:
    async with running() as run:
        run.probe.on_call = fail(asyncio.CancelledError())
        assert isinstance(await raised(run), Cancelled | Internal)


async def test_deadline_reaches_the_handler_and_ends_it() -> None:
    ended = asyncio.Event()
    seen: list[float | None] = []

    async def handler(_: Any, call: Call) -> Message:
        seen.append(call.remaining())
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return response("late")

    async with running() as run:
        run.probe.on_call = handler
        with pytest.raises(DeadlineExceeded), peer("probe"):
            metadata = headers(user=run.authority.user())
            await run.unary("Echo")(request(), metadata=metadata, timeout=0.3)
        await asyncio.wait_for(ended.wait(), 10)
    assert seen[0] is not None
    assert 0 < seen[0] <= 0.3


async def test_call_without_a_deadline_gets_the_servers() -> None:
    async def handler(_: Any, call: Call) -> Message:
        await asyncio.sleep(60)
        return response("late")

    async with running(unary_deadline=0.2) as run:
        run.probe.on_call = handler
        with pytest.raises(DeadlineExceeded) as caught, peer("probe"):
            await run.unary("Echo")(request(), metadata=headers(user=run.authority.user()))
    assert caught.value.reason == "DEADLINE_EXCEEDED"


async def test_timeout_of_the_handlers_own_is_not_the_callers_deadline() -> None:
    async with running() as run:
        run.probe.on_call = fail(TimeoutError("of a library"))
        assert isinstance(await raised(run), Internal)


async def test_cancelled_call_cancels_its_handler(log: io.StringIO) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(_: Any, __: Call) -> Message:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return response("late")

    async with running() as run:
        run.probe.on_call = handler
        calling = asyncio.create_task(run.echo())
        await asyncio.wait_for(started.wait(), 10)
        calling.cancel()
        await asyncio.wait_for(ended.wait(), 10)
        await until(lambda: '"status": "CANCELLED"' in log.getvalue())


async def test_cancelled_stream_closes_its_generator() -> None:
    closed = asyncio.Event()

    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        try:
            while True:
                yield response("x")
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()))
        await stream.read()
        stream.cancel()
        await asyncio.wait_for(closed.wait(), 10)


async def test_reader_that_stops_stops_the_handler() -> None:
    sent = 0

    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        nonlocal sent
        while sent < 10_000:
            yield response("x" * 10_000)
            sent += 1

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()))
        await stream.read()
        before = -1
        while before != sent:  # until the windows are full
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 5_000
        stream.cancel()


async def test_stream_error_in_the_middle_is_a_status_with_its_reason() -> None:
    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        yield response("first")
        raise NotFound("gone", metadata={"resource": "x"})

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()), timeout=20)
        assert (await stream.read()).text == "first"
        with pytest.raises(NotFound) as caught, peer("probe"):
            await stream.read()
    assert caught.value.metadata["resource"] == "x"


async def _ticks() -> AsyncGenerator[Message, None]:
    while True:
        yield response("tick")
        await asyncio.sleep(0.02)


async def polite(_: Any, call: Call) -> AsyncGenerator[Message, None]:
    """Stream until asked to end, then say why."""
    async for tick in until_closing(call, _ticks()):
        yield tick
    yield response(f"reconnect {call.closing.reason}")


async def test_drain_lets_streams_say_goodbye_and_ends_them() -> None:
    async with running() as run:
        run.probe.on_watch = polite
        user = headers(user=run.authority.user())
        streams = [aiter(run.watch()(request(), metadata=user, timeout=30)) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        stopping = asyncio.create_task(run.server.stop(60))
        lasts = [[answer.text async for answer in stream][-1] for stream in streams]
        assert lasts == ["reconnect DRAINING"] * 3
        await asyncio.wait_for(stopping, 20)  # the grace period is a bound, not a wait


async def test_drain_lets_calls_in_flight_end_and_takes_no_more() -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(_: Any, __: Call) -> Message:
        started.set()
        await release.wait()
        return response("done")

    async with running() as run:
        run.probe.on_call = handler
        calling = asyncio.create_task(run.echo())
        await asyncio.wait_for(started.wait(), 10)
        stopping = asyncio.create_task(run.server.stop(15))
        await asyncio.sleep(0.1)
        release.set()
        assert await calling == "done"
        await stopping
        with pytest.raises(Unavailable), peer("probe"):
            await run.echo()


async def test_drain_is_bounded_for_handlers_that_do_not_end() -> None:
    ended = asyncio.Event()

    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        try:
            yield response("first")
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()), timeout=20)
        await stream.read()
        await asyncio.wait_for(run.server.stop(0.2), 10)
        await asyncio.wait_for(ended.wait(), 10)


async def test_stream_is_asked_to_end_with_its_token() -> None:
    async with running() as run:
        run.probe.on_watch = polite
        # Clocks may differ by 5 s, so a token that ended just now still opens a stream.
        token = run.authority.user(exp=int(time.time()) - 1)
        stream = run.watch()(request(), metadata=headers(user=token), timeout=20)
        texts = [answer.text async for answer in stream]
    assert texts[-1] == "reconnect TOKEN_EXPIRED"


async def test_stream_that_ignores_the_end_of_its_token_is_ended() -> None:
    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        while True:
            yield response("x")
            await asyncio.sleep(0.02)

    async with running(token_grace=0.5) as run:
        run.probe.on_watch = handler
        token = run.authority.user(exp=int(time.time()))
        stream = run.watch()(request(), metadata=headers(user=token), timeout=20)
        with pytest.raises(Unauthenticated) as caught, peer("probe"):
            async for _ in stream:
                pass
    assert caught.value.reason == "TOKEN_EXPIRED"


async def test_stream_of_a_service_outlives_the_token_that_opened_it() -> None:
    async def handler(_: Any, call: Call) -> AsyncGenerator[Message, None]:
        for _ in range(10):
            await asyncio.sleep(0.02)
            yield response(call.closing.reason)

    async with running(token_grace=0.001) as run:
        run.probe.on_watch = handler
        born = time.time() - ActorSigner.LIFETIME - 1
        signer = ActorSigner("agent", run.authority.actors["agent"], clock=lambda: born)
        stream = run.watch("Follow")(request(), metadata=headers(actor=signer.token()), timeout=20)
        assert [answer.text async for answer in stream] == [""] * 10


async def test_calls_above_the_limit_are_refused_and_health_is_not() -> None:
    release = asyncio.Event()

    async def handler(_: Any, __: Call) -> Message:
        await release.wait()
        return response("done")

    async with running(unary_calls=2, streams=1) as run:
        run.probe.on_call = handler
        held = [asyncio.create_task(run.echo()) for _ in range(2)]
        await until(lambda: len(run.probe.calls) == 2)
        error = await raised(run)
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.retry_after) == ("OVERLOADED", 1.0)
        user = headers(user=run.authority.user())
        texts = [a.text async for a in run.watch()(request(), metadata=user, timeout=20)]
        assert texts == ["0", "1", "2"], "streams have places of their own"
        release.set()
        assert await asyncio.gather(*held) == ["done", "done"]
        assert await run.echo() == "done", "places are given back"


async def test_request_id_of_a_mutation_becomes_its_key() -> None:
    async with running() as run:
        await run.echo(request(request_id="r1", text="a", labels={"a": "1", "b": "2"}))
        await run.echo(request(request_id="r1", text="a", labels={"b": "2", "a": "1"}))
        await run.echo(request(request_id="r1", text="b"))
        await run.echo(request(text="a"))
        first, same, other, none = (call.request_key for call in run.probe.calls)
    assert first is not None
    assert other is not None
    assert (first.method, first.request_id) == ("tests.probe.v1.ProbeService.Echo", "r1")
    assert first == same
    assert first.digest != other.digest
    assert none is None


async def test_request_id_and_trace_travel(log: io.StringIO) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with running() as run:
        call = run.unary("Echo")(
            request(),
            metadata=(
                *headers(user=run.authority.user()),
                ("x-request-id", "mine-1"),
                ("traceparent", trace),
            ),
            timeout=20,
        )
        await call
        trailing = dict(await call.trailing_metadata())
        (seen,) = run.probe.calls
    assert trailing["x-request-id"] == "mine-1"
    assert seen.correlation_id == "mine-1"
    assert seen.trace[3:35] == "a" * 32
    assert seen.trace[36:52] != "b" * 16
    (line,) = [line for line in lines(log) if line["event"] == "call"]
    assert (line["request_id"], line["trace_id"]) == ("mine-1", "a" * 32)
    assert line["tenant"].startswith("ten_")
    assert line["service"] == "probe"


@pytest.mark.parametrize("bad", ["", "x" * 200])
async def test_request_id_that_cannot_be_used_is_replaced(bad: str) -> None:
    async with running() as run:
        metadata = (*headers(user=run.authority.user()), ("x-request-id", bad))
        await run.unary("Echo")(request(), metadata=metadata, timeout=20)
    assert run.probe.calls[0].correlation_id.startswith("req_")


async def test_tokens_are_never_logged(log: io.StringIO) -> None:
    authority = Authority()
    user, actor = authority.user(), authority.actor()
    expired, forged = authority.user(lifetime=-60), Authority().user()

    async def handler(_: Any, call: Call) -> Message:
        structlog.get_logger().info("seen", call=call, token=user, nested={"a": [user]}, note=user)
        raise RuntimeError(f"failed with Bearer {call.principal.token}")

    async with running(authority) as run:
        run.probe.on_call = handler
        for tokens in ({"user": user, "actor": actor}, {"user": expired}, {"user": forged}):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await run.echo(**tokens)
            assert not any(part in repr(caught.value) for part in tokens.values())
    text = log.getvalue()
    assert "seen" in text
    assert "failed with" in text
    for token in (user, actor, expired, forged):
        assert token not in text
        assert token.split(".")[2] not in text


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


async def test_unknown_enum_number_is_refused_over_the_wire() -> None:
    async with running() as run:
        error = await raised(run, colour=77)
    assert error.fields == {"colour": "77 is no value of Colour"}
