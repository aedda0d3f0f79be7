"""Many streams of one client: more than HTTP/2's usual hundred, and more than the server bears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import event_service_pb2 as pb
from gathering.gateway.v1.event_service_pb2_grpc import EventServiceStub
from gathering_client import Gathering
from gathering_client.streams import follow_events
from gathering_mesh.client import peer
from gathering_mesh.errors import ResourceExhausted
from tests.chaos.cuts.doors import Given
from tests.support.edge import Edge, running_edge
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, bearer, running_gateway

STREAMS = 150


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that bears a few streams only."""
    async with running_gateway(
        await new_database("gateway"), tmp_path, server={"streams": STREAMS}, sources=()
    ) as running:
        yield running


@pytest.fixture
async def edge(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(gateway, tmp_path, streams=STREAMS) as running:
        yield running


async def test_stream_over_the_limit_is_refused_with_its_reason_and_health_is_not(
    gateway: Gateway, edge: Edge
) -> None:
    admin = await gateway.admin()
    stub: Any = EventServiceStub(edge.channel)

    def subscribe() -> Any:
        return stub.Subscribe(pb.SubscribeRequest(), metadata=bearer(admin), timeout=60)

    streams = [subscribe() for _ in range(STREAMS)]
    for stream in streams:
        assert (await stream.read()).HasField("checkpoint")
    with pytest.raises(ResourceExhausted) as caught, peer("gateway"):
        await subscribe().read()
    assert caught.value.reason == "OVERLOADED"
    for channel in (edge.channel, gateway.channel):
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    streams.pop().cancel()
    await gateway.log_in(admin.user.email)
    for stream in streams:
        assert (await stream.read()).HasField("event"), "those that stand are not disturbed"
        stream.cancel()


async def test_python_client_follows_more_than_a_hundred_streams_at_once(
    gateway: Gateway, edge: Edge
) -> None:
    admin = await gateway.admin()
    async with Gathering(edge.url, Given(admin)) as mesh, AsyncExitStack() as stack:
        streams = []
        for _ in range(STREAMS):
            followed = follow_events(mesh, checkpoints=True)
            streams.append(await stack.enter_async_context(aclosing(followed)))
        for stream in streams:
            assert (await anext(stream)).cursor
        assert (await mesh.auth.GetMe(auth.GetMeRequest())).user_id == admin.user.user_id
