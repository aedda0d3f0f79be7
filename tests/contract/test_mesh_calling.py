"""What a call to another service carries, how it is repeated and how it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.message import Message

from gathering_mesh.call import Call, Principal
from gathering_mesh.client import Channels, peer
from gathering_mesh.errors import DeadlineExceeded, Internal, NotFound, Unavailable
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings, ServiceSettings
from gathering_mesh.tokens import ActorSigner
from tests.support.probe import (
    SERVICE,
    Authority,
    Running,
    contract,
    message,
    request,
    response,
    running,
)


@asynccontextmanager
async def channels(authority: Authority, port: int) -> AsyncIterator[Channels]:
    """Yield the channels of the service agent to a probe."""
    signer = ActorSigner("agent", authority.actors["agent"])
    settings = ServiceSettings(service="agent", peers={"probe": f"127.0.0.1:{port}"})
    opened = Channels(settings, signer)
    try:
        yield opened
    finally:
        await opened.close()


def rpc(opened: Channels, name: str = "Echo") -> Any:
    """Return an RPC of the probe, as a stub would."""
    return opened.to("probe").unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=message("EchoRequest").SerializeToString,
        response_deserializer=message("EchoResponse").FromString,
    )


@asynccontextmanager
async def two_hops(authority: Authority) -> AsyncIterator[tuple[Running, Running]]:
    """Yield a probe in front, which asks the probe behind it, and that one."""
    async with (
        running(authority) as front,
        running(authority) as behind,
        channels(authority, behind.server.port) as opened,
    ):

        async def relay(asked: Any, call: Call) -> Message:
            with peer("probe"):
                answer: Message = await rpc(opened)(asked, **opened.outgoing(call))
            return answer

        front.probe.on_call = relay
        yield front, behind


def user_call(authority: Authority, seconds: float | None = 20) -> Call:
    """Return a call of the usual user."""
    deadline = None if seconds is None else time.monotonic() + seconds
    return Call(
        Principal("ten_1", "usr_1", frozenset(), "member", token=authority.user()),
        "test",
        deadline,
        trace="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        correlation_id="req_1",
    )


async def test_call_over_two_hops_carries_both_tokens_trace_and_what_is_left_of_the_time() -> None:
    authority = Authority()
    token = authority.user()
    async with two_hops(authority) as (front, behind):
        assert await front.echo(user=token) == "hello"
    (first,), (second,) = front.probe.calls, behind.probe.calls
    assert second.principal.token == token
    assert (first.principal.actor, second.principal.actor) == (None, "agent")
    assert second.trace[3:35] == first.trace[3:35]
    assert second.trace != first.trace
    assert second.correlation_id == first.correlation_id
    assert first.deadline is not None
    assert second.deadline is not None
    assert second.deadline <= first.deadline + 0.1


async def test_error_of_a_hop_keeps_status_and_reason_for_the_caller_in_front() -> None:
    async def missing(_: Any, __: Call) -> Message:
        raise NotFound("no such tool", reason="TOOL_NOT_FOUND", metadata={"resource": "t"})

    async with two_hops(Authority()) as (front, behind):
        behind.probe.on_call = missing
        with pytest.raises(NotFound) as caught, peer("front"):
            await front.echo()
    assert (caught.value.message, caught.value.reason) == ("no such tool", "TOOL_NOT_FOUND")
    assert caught.value.metadata["resource"] == "t"


async def test_unavailable_answer_is_asked_for_again() -> None:
    async with running() as run, channels(run.authority, run.server.port) as opened:

        async def third_time(_: Any, __: Call) -> Message:
            if len(run.probe.calls) < 3:
                raise Unavailable("not yet")
            return response("now")

        run.probe.on_call = third_time
        answer = await rpc(opened)(request(), **opened.outgoing(user_call(run.authority)))
        assert answer.text == "now"
        assert len(run.probe.calls) == 3


async def test_other_errors_are_not_asked_for_again() -> None:
    async with running() as run, channels(run.authority, run.server.port) as opened:

        async def broken(_: Any, __: Call) -> Message:
            raise RuntimeError("x")

        run.probe.on_call = broken
        with pytest.raises(Internal) as caught, peer("probe"):
            await rpc(opened)(request(), **opened.outgoing(user_call(run.authority)))
        assert caught.value.message == "probe failed inside"
        assert len(run.probe.calls) == 1


async def test_channel_finds_a_peer_that_came_back() -> None:
    authority = Authority()
    async with running(authority) as run:
        port, probe = run.server.port, run.probe
        async with channels(authority, port) as opened:
            outgoing = opened.outgoing(user_call(authority))
            await rpc(opened)(request(), **outgoing)
            await run.server.stop(0)
            with pytest.raises(Unavailable) as caught, peer("probe"):
                await rpc(opened)(request(), **outgoing)
            assert caught.value.message == "probe cannot be reached"
            again = GrpcServer(ServerSettings(port=port), authority.authenticator())
            again.add(contract().services_by_name["ProbeService"], probe)
            await again.start()
            try:
                answer = await rpc(opened)(request(), **outgoing, wait_for_ready=True)
                assert answer.text == "hello"
            finally:
                await again.stop(0.1)


async def test_call_whose_deadline_has_passed_is_not_sent() -> None:
    async with running() as run, channels(run.authority, run.server.port) as opened:
        with pytest.raises(DeadlineExceeded):
            opened.outgoing(user_call(run.authority, seconds=-1))


async def test_timeout_is_the_smaller_of_the_asked_and_the_remaining() -> None:
    async with running() as run, channels(run.authority, run.server.port) as opened:
        call = user_call(run.authority, seconds=5)
        assert 4 < (opened.outgoing(call)["timeout"] or 0) <= 5
        assert opened.outgoing(call, timeout=2)["timeout"] == 2
        assert 4 < (opened.outgoing(call, timeout=None)["timeout"] or 0) <= 5
        endless = user_call(run.authority, seconds=None)
        assert opened.outgoing(endless)["timeout"] == 10
        assert opened.outgoing(endless, timeout=None)["timeout"] is None


async def test_service_calls_internal_rpcs_as_itself() -> None:
    async with running() as run, channels(run.authority, run.server.port) as opened:
        await rpc(opened, "Inside")(request(), **opened.outgoing_as_actor())
        assert run.probe.calls[0].principal.actor == "agent"
        assert not run.probe.calls[0].principal.has_subject


async def test_one_channel_serves_all_calls_to_a_peer() -> None:
    async with running() as run, channels(run.authority, run.server.port) as opened:
        assert opened.to("probe") is opened.to("probe")
        with pytest.raises(LookupError, match="GATHERING_PEERS has no address of nobody"):
            opened.to("nobody")


async def test_cancelled_caller_cancels_the_hop_behind() -> None:
    ended, started = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, __: Call) -> Message:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return response("late")

    async with two_hops(Authority()) as (front, behind):
        behind.probe.on_call = slow
        calling = asyncio.create_task(front.echo())
        await asyncio.wait_for(started.wait(), 20)
        calling.cancel()
        await asyncio.wait_for(ended.wait(), 20)
