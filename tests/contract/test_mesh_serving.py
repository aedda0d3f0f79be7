"""What a server of the mesh does with calls of all kinds, seen from outside through a real port."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.message import Message

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
from tests.support.probe import (
    Authority,
    fail,
    headers,
    raised,
    request,
    response,
    running,
    until,
)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    """Return what was logged."""
    return [json.loads(line) for line in log.getvalue().splitlines()]


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


async def test_error_in_words_of_another_script_fits_what_clients_take() -> None:
    """A header has 8 KiB, and escapes make a character of an emoji twelve."""
    many = {f"field_{number}": "\U0001f980" * 100 for number in range(20)}
    async with running() as run:
        run.probe.on_call = fail(InvalidArgument("\U0001f980" * 1000, fields=many))
        for _ in range(20):  # beyond it some would be refused, by chance
            got = await raised(run)
            assert isinstance(got, InvalidArgument)
            assert got.message.startswith("\U0001f980" * 100)
            assert "field_0" in got.fields


async def test_headers_that_the_edge_lets_through_are_taken() -> None:
    async with running() as run:
        for size in (9_000, 20_000, 61_440):
            metadata = (*headers(user=run.authority.user()), ("x-large", "x" * size))
            for _ in range(5):
                assert await run.unary("Echo")(request(), metadata=metadata, timeout=20)


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
        await run.echo(request(request_id="r2", text="b"))
        await run.echo(request(text="a"))
        first, same, other, again, none = (call.request_key for call in run.probe.calls)
    assert first is not None
    assert other is not None
    assert again is not None
    assert other.digest == again.digest, "the digest is that of the rest"
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
