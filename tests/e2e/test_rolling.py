"""Services are restarted one replica at a time: calls go on, and streams go on where they were."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc
import httpx
import pytest

from gathering.agent.v1 import agent_service_pb2, turn_service_pb2
from gathering.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from gathering.agent.v1.turn_service_pb2_grpc import TurnServiceStub
from gathering.gateway.v1 import auth_service_pb2
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering.memory.v1 import memory_service_pb2
from gathering.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from gathering.orchestrator.v1 import circle_service_pb2
from gathering.orchestrator.v1.circle_service_pb2_grpc import CircleServiceStub
from gathering.skills.v1.execution_service_pb2_grpc import ExecutionServiceStub
from gathering_client import Gathering
from gathering_client.streams import follow_events
from tests.e2e.makers import TENANT, Maker
from tests.e2e.mesh import SERVICES, LocalMesh
from tests.e2e.rpcs import OPTIONS
from tests.e2e.tenants import Tenant

_STREAM_SECONDS = 60.0
Step = Callable[[], Awaitable[None]]


@dataclass
class Load:
    """What callers that never try again saw."""

    calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)

    async def repeat(self, name: str, step: Step, done: asyncio.Event) -> None:
        """Call over and over until told to end."""
        while not done.is_set():
            try:
                await step()
            except (grpc.aio.AioRpcError, httpx.HTTPError, AssertionError) as error:
                self.failures.append(f"{name}: {error!r}"[:500])
            self.calls[name] += 1


@asynccontextmanager
async def bare_channel(mesh: LocalMesh) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel that repeats nothing, not even what was never sent."""
    options = (*OPTIONS, ("grpc.enable_retries", 0))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}", options=options) as channel:
        yield channel


def steps(
    load: Load, channel: grpc.aio.Channel, http: httpx.AsyncClient, tenant: Tenant, maker: Maker
) -> dict[str, Step]:
    """Return a call of each service, by gRPC or REST."""
    call: Callable[[], Any] = partial(dict, metadata=tenant.headers, timeout=30)
    agents = AgentServiceStub(channel)

    async def create_agent() -> None:
        request = agent_service_pb2.CreateAgentRequest(agent=maker.described())
        load.created.append((await agents.CreateAgent(request, **call())).agent_id)

    async def rest_agent() -> None:
        agent = {"name": maker.text("rest"), "persona": {"role": "caller"}}
        made = await http.post("/v1/agents", json={"agent": agent, "request_id": uuid.uuid4().hex})
        assert made.is_success, f"{made.status_code} {made.text}"
        load.created.append(made.json()["agent_id"])
        got = await http.get(f"/v1/agents/{load.created[-1]}")
        assert got.is_success, f"{got.status_code} {got.text}"

    async def remember() -> None:
        memories = MemoryServiceStub(channel)
        request = memory_service_pb2.RememberRequest(text=maker.text("fact"), scope=TENANT)
        await memories.Remember(request, **call())

    async def get_me() -> None:
        await AuthServiceStub(channel).GetMe(auth_service_pb2.GetMeRequest(), **call())

    async def list_circles() -> None:
        request = circle_service_pb2.ListCirclesRequest(page_size=1)
        await CircleServiceStub(channel).ListCircles(request, **call())

    return {
        "agent": create_agent,
        "agent by REST": rest_agent,
        "memory": remember,
        "gateway": get_me,
        "orchestrator": list_circles,
    }


async def heavier_steps(channel: grpc.aio.Channel, tenant: Tenant, maker: Maker) -> dict[str, Step]:
    """Return calls that pass through several services."""
    session_id, tool_call = await maker.session(), await maker.tool_call()
    call: Callable[[], Any] = partial(dict, metadata=tenant.headers, timeout=60)

    async def execute() -> None:
        tool_call.request_id = uuid.uuid4().hex
        await ExecutionServiceStub(channel).Execute(tool_call, **call())

    async def chat() -> None:
        request = turn_service_pb2.ChatRequest(
            session_id=session_id, text=maker.text("say hello"), request_id=uuid.uuid4().hex
        )
        turn = await TurnServiceStub(channel).Chat(request, **call())
        assert turn.turn_id

    return {"skills": execute, "chat": chat}


async def seen_agents(client: Gathering, begun: asyncio.Event, into: list[str]) -> None:
    """Follow the creation of agents for ever."""
    async for followed in follow_events(client, types=["agent_created"], checkpoints=True):
        begun.set()
        assert not followed.gap
        if followed.event is not None:
            into.append(followed.event.agent_created.agent_id)


@pytest.mark.disruptive
async def test_rolling_restart_under_load_fails_no_call_and_streams_go_on(
    mesh: LocalMesh,
    tenant: Tenant,
    client: Gathering,
    maker: Maker,
    record_property: Callable[[str, object], None],
) -> None:
    if mesh.replicas == 1:
        pytest.skip("with one replica there is nobody to go on")
    load, done, begun, seen = Load(), asyncio.Event(), asyncio.Event(), list[str]()
    before = {process.pid for process in mesh.processes()}
    following = asyncio.create_task(seen_agents(client, begun, seen))
    await begun.wait()
    headers = dict(tenant.headers)
    async with (
        bare_channel(mesh) as channel,
        httpx.AsyncClient(base_url=mesh.url, headers=headers, timeout=30, trust_env=False) as http,
    ):
        chosen = steps(load, channel, http, tenant, maker)
        chosen |= await heavier_steps(channel, tenant, maker)
        callers = [
            asyncio.create_task(load.repeat(name, step, done)) for name, step in chosen.items()
        ]
        restarted = await asyncio.to_thread(mesh.command, "restart", timeout=200.0)
        done.set()
        await asyncio.gather(*callers)
    record_property("calls", dict(load.calls))
    assert restarted.code == 0, restarted.err
    assert before.isdisjoint(mesh.process(name).pid for name in mesh.of(*SERVICES))
    assert not load.failures
    assert min(load.calls[name] for name in chosen) > 0
    async with asyncio.timeout(_STREAM_SECONDS):
        while not set(load.created) <= set(seen):
            assert not following.done(), following.result()
            await asyncio.sleep(0.05)
    following.cancel()
    assert not [agent_id for agent_id, count in Counter(seen).items() if count > 1]


async def test_calls_go_on_although_one_replica_of_each_service_is_killed(
    mesh: LocalMesh, maker: Maker
) -> None:
    if mesh.replicas == 1:
        pytest.skip("with one replica there is nobody to go on")
    killed = set(mesh.kill("redis", *(name for name in mesh.of(*SERVICES) if "-" not in name)))
    assert await maker.turn()
    assert await maker.execution()
    assert await maker.memory()
    await asyncio.to_thread(mesh.until_ready, killed)


@pytest.mark.disruptive
async def test_up_with_another_number_of_replicas_starts_the_mesh_anew(
    mesh: LocalMesh, tenant: Tenant, maker: Maker
) -> None:
    if mesh.replicas == 1:
        pytest.skip("it is one already")
    agent_id, before = await maker.agent(), mesh.processes()
    try:
        ended = await asyncio.to_thread(mesh.command, "up", "--replicas", "1", "--no-redis")
        assert ended.code == 0, ended.err
        assert not any(process.alive() for process in before)
        assert mesh.of("agent", "gateway") == ["agent", "gateway"]
        assert "redis" not in {part.name for part in mesh.status.parts}
        async with tenant.client() as again:
            request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
            assert (await again.agents.GetAgent(request)).agent_id == agent_id
    finally:
        await asyncio.to_thread(mesh.up)
    assert len(mesh.of("agent")) == mesh.replicas
