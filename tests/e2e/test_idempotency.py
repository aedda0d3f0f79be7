"""A mutation that is repeated with its `request_id` gives the first result and acts once."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from gathering.agent.v1 import agent_pb2, agent_service_pb2
from gathering.memory.v1 import memory_service_pb2
from gathering.orchestrator.v1 import task_service_pb2
from gathering_client import Gathering, GatheringError
from gathering_client.paging import all_pages
from gathering_mesh.options import field_bounds
from tests.e2e.makers import Maker
from tests.e2e.mesh import SERVICES, LocalMesh
from tests.e2e.recipes import RECIPES
from tests.e2e.rpcs import Answer, Rpc, all_rpcs, is_ours, is_text, strings
from tests.e2e.tenants import Tenant

MUTATIONS = [rpc for rpc in all_rpcs() if rpc.for_users and rpc.mutation]
EVERY = pytest.mark.parametrize("rpc", MUTATIONS, ids=lambda rpc: rpc.name)
IN_PROGRESS = "REQUEST_IN_PROGRESS"


async def named(rpc: Rpc, maker: Maker) -> Any:
    """Return a good request with a name of its own."""
    request: Any = await RECIPES[rpc.name](maker)
    request.request_id = uuid.uuid4().hex
    return request


def result(answer: Answer) -> str:
    """Return the id of what came of a call: the first that its answer holds, empty for none."""
    return next((text for text in strings(answer.message) if "_" in text), "")


def altered(request: Any) -> Any:
    """Return the request with another body: another text if it has one, else another id."""
    other = type(request)()
    other.CopyFrom(request)
    assert _alter(other, texts=True) or _alter(other, texts=False)
    return other


def _alter(message: Any, *, texts: bool) -> bool:
    for field, value in message.ListFields():
        if field.name == "request_id":
            continue
        bounds = field_bounds(field)
        named = bool(bounds and (bounds.id or bounds.pattern))
        if is_text(field) and texts == _is_free(field.name, named):
            full = bool(texts and bounds and len(value) == bounds.max_chars)
            kept = value[:-1] if full else value
            changed = f"{kept}x" if texts else f"{value[:-32]}{uuid.uuid4().hex}"
            setattr(message, field.name, changed)
            return True
        if is_ours(field) and _alter(value, texts=texts):
            return True
    return False


def _is_free(name: str, named_resource: bool) -> bool:
    """Tell whether any text is good in a field; a path or a tool has to be one that exists."""
    return not named_resource and name not in {"path", "tool", "skill"}


@EVERY
async def test_repeat_gives_the_first_result_and_another_body_is_refused(
    rpc: Rpc, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    request = await named(rpc, maker)
    first = await rpc.call(edge, request, tenant.headers)
    again = await rpc.call(edge, request, tenant.headers)
    assert result(again) == result(first)
    other = await rpc.call(edge, altered(request), tenant.headers)
    assert (other.status, other.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED"), other


@EVERY
async def test_two_callers_at_once_get_one_result(
    rpc: Rpc, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    request = await named(rpc, maker)
    answers = await asyncio.gather(*(rpc.call(edge, request, tenant.headers) for _ in range(4)))
    refused = [answer for answer in answers if answer.status != "OK"]
    assert {(answer.status, answer.reason) for answer in refused} <= {("ABORTED", IN_PROGRESS)}
    assert len(refused) < len(answers)
    later = await rpc.call(edge, request, tenant.headers)
    assert {result(answer) for answer in answers if answer.status == "OK"} == {result(later)}


async def test_calls_at_once_make_one_of_a_thing(
    maker: Maker, client: Gathering, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    """The answers agree; so does what is stored."""
    by_name = {rpc.name: rpc for rpc in MUTATIONS}
    made: dict[str, Any] = {}
    for name in ("AgentService.CreateAgent", "MemoryService.Remember", "TaskService.CreateTask"):
        made[name] = await named(by_name[name], maker)
        await asyncio.gather(
            *(by_name[name].call(edge, made[name], tenant.headers) for _ in range(4))
        )
    agents = await all_pages(client.agents.ListAgents, agent_service_pb2.ListAgentsRequest())
    name = made["AgentService.CreateAgent"].agent.name
    assert [a.name for page in agents for a in page.agents].count(name) == 1
    memories = await all_pages(
        client.memories.ListMemories, memory_service_pb2.ListMemoriesRequest()
    )
    text = made["MemoryService.Remember"].text
    found = [m for page in memories for m in page.memories if m.text == text]
    assert [m.remembered_count for m in found] == [1]
    circle_id = made["TaskService.CreateTask"].circle_id
    tasks = await client.tasks.ListTasks(task_service_pb2.ListTasksRequest(circle_id=circle_id))
    assert len(tasks.tasks) == 1


async def test_repeat_after_the_services_were_killed_gives_the_first_result(
    mesh: LocalMesh, maker: Maker, edge: grpc.aio.Channel, tenant: Tenant
) -> None:
    requests: dict[Rpc, tuple[Message, str]] = {}
    for rpc in MUTATIONS:
        request = await named(rpc, maker)
        requests[rpc] = request, result(await rpc.call(edge, request, tenant.headers))
    await asyncio.to_thread(mesh.restart, *mesh.of(*SERVICES))
    wrong = {}
    for rpc, (request, first) in requests.items():
        again = await rpc.call(edge, request, tenant.headers)
        if again.status != "OK" or result(again) != first:
            wrong[rpc.name] = again
            continue
        other = await rpc.call(edge, altered(request), tenant.headers)
        if other.reason != "REQUEST_ID_REUSED":
            wrong[rpc.name] = other
    assert wrong == {}


async def test_call_whose_answer_was_lost_is_found_done(
    mesh: LocalMesh, maker: Maker, client: Gathering
) -> None:
    """The service dies under many calls: each is repeated until it is answered, and done once."""
    names = [maker.text("agent") for _ in range(30)]

    async def create(name: str) -> str:
        request = agent_service_pb2.CreateAgentRequest(
            request_id=uuid.uuid4().hex, agent=agent_pb2.Agent(name=name)
        )
        while True:
            try:
                return (await client.agents.CreateAgent(request)).agent_id
            except GatheringError as error:
                if error.status != "UNAVAILABLE":
                    raise

    calls = [asyncio.create_task(create(name)) for name in names]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    killed = set(mesh.kill(*mesh.of("agent")))
    made = await asyncio.gather(*calls)
    await asyncio.to_thread(mesh.until_ready, killed)
    agents = await all_pages(client.agents.ListAgents, agent_service_pb2.ListAgentsRequest())
    stored = {a.agent_id: a.name for page in agents for a in page.agents if a.name in names}
    assert sorted(stored.values()) == sorted(names)
    assert set(stored) == set(made)
