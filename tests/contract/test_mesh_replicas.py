"""A service of several replicas: calls go to those that are there and not about to go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering_mesh.call import Call, Principal
from gathering_mesh.client import Channels, target
from gathering_mesh.settings import ServiceSettings
from gathering_mesh.tokens import ActorSigner
from tests.support.probe import (
    SERVICE,
    Authority,
    Running,
    headers,
    message,
    request,
    response,
    running,
)

_GRACE = 60.0  # seconds that nobody should need


@asynccontextmanager
async def two(authority: Authority) -> AsyncIterator[tuple[Running, Running, Any]]:
    """Yield two replicas that answer with their names, and a call through one channel to both."""
    async with running(authority) as first, running(authority) as second:
        for name, replica in (("first", first), ("second", second)):
            replica.probe.on_call = named(name)
        addresses = ",".join(f"127.0.0.1:{each.server.port}" for each in (first, second))
        settings = ServiceSettings(service="agent", peers={"probe": addresses})
        opened = Channels(settings, ActorSigner("agent", authority.actors["agent"]))
        principal = Principal("ten_1", "usr_1", frozenset(), "member", token=authority.user())
        rpc = opened.to("probe").unary_unary(
            f"/{SERVICE}/Echo",
            request_serializer=message("EchoRequest").SerializeToString,
            response_deserializer=message("EchoResponse").FromString,
        )

        async def ask() -> str:
            answer = await rpc(request(), **opened.outgoing(Call(principal, "caller")))
            return str(answer.text)

        try:
            yield first, second, ask
        finally:
            await opened.close()


def named(name: str) -> Any:
    """Return a handler that answers with a name."""

    async def answer(_: Any, __: Call) -> Message:
        return response(name)

    return answer


async def until_only(ask: Any, name: str) -> None:
    """Call until one replica alone answers."""
    end = time.monotonic() + 10.0
    while {await ask() for _ in range(4)} != {name}:
        assert time.monotonic() < end, f"{name} is not the only one"


async def test_calls_are_shared_by_replicas() -> None:
    async with two(Authority()) as (_, _, ask):
        end = time.monotonic() + 10.0
        while {await ask() for _ in range(4)} != {"first", "second"}:
            assert time.monotonic() < end


async def test_replica_that_is_to_go_gets_no_more_calls_while_it_still_serves() -> None:
    async with two(Authority()) as (first, _, ask):
        await first.server.not_ready()
        await until_only(ask, "second")
        # It is alone among those that drain, and would answer whoever still asks it.
        assert first.server.port
        assert not first.server.ready


async def test_call_succeeds_although_a_replica_is_dead() -> None:
    async with two(Authority()) as (first, _, ask):
        await ask()
        await first.server.stop(0)
        assert {await ask() for _ in range(6)} == {"second"}


async def test_watch_of_the_health_does_not_hold_up_the_end() -> None:
    async with (
        running() as run,
        grpc.aio.insecure_channel(f"127.0.0.1:{run.server.port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        told = aiter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=60))
        assert (await anext(told)).status == health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(_GRACE / 3):
            await run.server.stop(_GRACE)
        rest = [answer.status async for answer in told]
    assert rest in ([], [health_pb2.HealthCheckResponse.NOT_SERVING])


async def test_health_of_what_is_not_served_is_not_found() -> None:
    async with (
        running() as run,
        grpc.aio.insecure_channel(f"127.0.0.1:{run.server.port}") as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=20)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_call_that_outlasts_the_drain_may_be_made_again() -> None:
    began = asyncio.Event()

    async def slow(_: Any, __: Call) -> Message:
        began.set()
        await asyncio.sleep(60)
        raise AssertionError

    async with running() as run:
        run.probe.on_call = slow
        asked = run.unary("Echo")(
            request(), metadata=headers(user=run.authority.user()), timeout=20
        )
        calling = asyncio.ensure_future(asked)
        await began.wait()
        await run.server.stop(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await calling
    assert cut.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("address", "resolved"),
    [
        ("127.0.0.1:1", "127.0.0.1:1"),
        ("dns:///agent:50051", "dns:///agent:50051"),
        ("127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
        ("[::1]:1,[::1]:2", "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_addresses_become_what_grpc_resolves(address: str, resolved: str) -> None:
    assert target(address) == resolved
