"""What a client is built with, through the real Envoy: descriptors, reflection, health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from gathering_gateway.convert_contract import descriptor_set, read_contract
from gathering_gateway.envoy.tools import REFLECTION
from tests.support.edge import Edge, free_port, running_edge
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, bearer, running_gateway

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that has the address of an agent service, where nobody is."""
    peers = {"agent": f"127.0.0.1:{free_port()}"}
    async with running_gateway(await new_database("gateway"), tmp_path, peers=peers) as running:
        yield running


@pytest.fixture
async def edge(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge before it."""
    async with running_edge(gateway, tmp_path) as running:
        yield running


async def test_descriptors_are_the_whole_contract(edge: Edge) -> None:
    answer = await edge.http.get("/descriptor.binpb")
    assert answer.status_code == 200
    assert answer.content == descriptor_set()
    again = await edge.http.get(
        "/descriptor.binpb", headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(answer.content).file:
        pool.Add(file)
    assert pool.FindServiceByName("gathering.orchestrator.v1.TaskService").methods_by_name


async def test_health_of_each_service_is_told_without_a_token(edge: Edge) -> None:
    stub = health_pb2_grpc.HealthStub(edge.channel)

    async def health(service: str) -> int:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        return int(answer.status)

    assert await health("") == _SERVING
    assert await health("gathering.gateway.v1.EventService") == _SERVING
    assert await health("gathering.agent.v1.TurnService") == _NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health("gathering.no.v1.Service")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("path", REFLECTION, ids=["v1", "v1alpha"])
async def test_reflection_needs_a_token(edge: Edge, gateway: Gateway, path: str) -> None:
    ask = edge.channel.stream_stream(
        path,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    # Nothing is sent: the refusal comes for the headers, and a write behind it fails as INTERNAL.
    assert await ask(timeout=20).code() == grpc.StatusCode.UNAUTHENTICATED
    admin = await gateway.admin()
    answers = [a async for a in ask(iter([request]), metadata=bearer(admin), timeout=20)]
    names = {s.name for s in answers[0].list_services_response.service}
    assert {"gathering.agent.v1.TurnService", "gathering.gateway.v1.AuthService"} <= names


def _reflected(address: str, token: str) -> dict[str, set[str]]:
    """Return services and their RPCs as a tool finds them that knows nothing else."""
    metadata = (("authorization", f"Bearer {token}"),)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as bare:
        channel = grpc.intercept_channel(bare, _WithMetadata(metadata))
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = descriptor_pool.DescriptorPool(database)
        found = {}
        for name in database.get_services():
            if "reflection" not in name:
                found[name] = set(pool.FindServiceByName(name).methods_by_name)
        return found


class _WithMetadata(grpc.StreamStreamClientInterceptor):
    """Adds a token to each call."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def intercept_stream_stream(self, continuation, details, requests):  # type: ignore[no-untyped-def]
        return continuation(details._replace(metadata=self._metadata), requests)


async def test_tool_that_knows_nothing_finds_the_rpcs_by_reflection(
    edge: Edge, gateway: Gateway
) -> None:
    token = (await gateway.admin()).access_token
    address = edge.url.removeprefix("http://")
    found = await asyncio.to_thread(_reflected, address, token)
    contract = {s.full_name: set(s.methods_by_name) for s in read_contract().services}
    assert found["gathering.agent.v1.TurnService"] == contract["gathering.agent.v1.TurnService"]
    assert found["grpc.health.v1.Health"] >= {"Check"}
