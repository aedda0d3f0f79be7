"""What is killed comes back, and what was begun is finished; what is stopped is gone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gathering.agent.v1 import agent_service_pb2
from gathering.events.v1.event_pb2 import Event
from gathering.memory.v1 import memory_service_pb2
from gathering.orchestrator.v1 import task_pb2, task_service_pb2
from gathering.skills.v1 import workspace_service_pb2
from gathering_client import Gathering, GatheringError, cast
from gathering_client.streams import follow_events, follow_task
from gathering_local.processes import ProcessId
from tests.chaos import checker
from tests.chaos.mesh import superuser_dsn
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.tenants import Tenant

ENDS = {task_pb2.TASK_STATE_COMPLETED, task_pb2.TASK_STATE_ESCALATED, task_pb2.TASK_STATE_FAILED}


async def begun_task(client: Gathering, folder: str) -> str:
    """Give a circle of agents a real task on a directory; return it when work has begun."""
    workspace = await client.workspaces.CreateWorkspace(
        workspace_service_pb2.CreateWorkspaceRequest(path=folder)
    )
    circle = await cast.gather(client, workspace.workspace_id)
    task_id = ""
    async for followed in follow_events(client, types=["turn_step_completed"], checkpoints=True):
        if not task_id:
            task_id = (await cast.small_task(client, circle)).task_id
        elif followed.event and followed.event.turn_step_completed.task_id == task_id:
            return task_id
    raise AssertionError


async def ended(client: Gathering, task_id: str) -> task_pb2.Task:
    """Wait for a task's end, or for a human to be asked."""
    async for task in follow_task(client, task_id):
        if task.state in ENDS:
            return task
    raise AssertionError


async def as_it_should(mesh: LocalMesh, client: Gathering, task_id: str) -> None:
    """Wait for the end of a task that was disturbed: it is done, and nothing was done twice."""
    await _done_and_told_once(client, task_id)
    await checker.expect(superuser_dsn(mesh))


async def _done_and_told_once(client: Gathering, task_id: str) -> None:
    task = await ended(client, task_id)
    assert task.state == task_pb2.TASK_STATE_COMPLETED, task.state_message
    assert [artifact.path for artifact in task.artifacts] == [cast.STRUCTURE]
    names = [(event.source, event.position) async for event in _events_to_the_end(client, task_id)]
    assert len(set(names)) == len(names)


async def _events_to_the_end(client: Gathering, task_id: str) -> AsyncIterator[Event]:
    async for followed in follow_events(client, cursor="start", subject_ids=[task_id]):
        if followed.event is not None:
            yield followed.event
            if followed.event.type == "task_completed":
                return


@pytest.mark.parametrize(
    "parts",
    [("agent",), ("skills", "gateway"), ("orchestrator", "memory")],
    ids=lambda parts: " and ".join(parts),
)
async def test_task_is_done_although_services_were_killed(
    parts: tuple[str, ...], mesh: LocalMesh, client: Gathering, workspace: Path
) -> None:
    task_id = await begun_task(client, str(workspace))
    killed = set(mesh.kill(*mesh.of(*parts)))
    await asyncio.to_thread(mesh.until_ready, killed)
    await as_it_should(mesh, client, task_id)


@pytest.mark.parametrize("part", ["postgres", "edge"])
async def test_task_is_done_although_what_all_stand_on_was_killed(
    part: str, mesh: LocalMesh, client: Gathering, workspace: Path
) -> None:
    task_id = await begun_task(client, str(workspace))
    killed = set(mesh.kill(part))
    await asyncio.to_thread(mesh.until_ready, killed)
    await as_it_should(mesh, client, task_id)


@pytest.mark.disruptive
async def test_task_is_done_although_the_supervisor_was_killed(
    mesh: LocalMesh, tenant: Tenant, client: Gathering, workspace: Path
) -> None:
    task_id = await begun_task(client, str(workspace))
    left = mesh.processes()
    os.kill(mesh.status.supervisor.pid, 9)
    await asyncio.to_thread(mesh.up)
    assert not any(process.alive() for process in left)
    async with tenant.client() as again:
        await as_it_should(mesh, again, task_id)


@pytest.mark.disruptive
async def test_mesh_that_was_stopped_is_gone_and_keeps_its_data(
    mesh: LocalMesh,
    tenant: Tenant,
    maker: Maker,
    record_property: Callable[[str, object], None],
) -> None:
    agent_id, memory_id = await maker.agent(), await maker.memory()
    password, processes = mesh.admin[1], mesh.processes()
    children = [pid for process in processes for pid in _descendants(process.pid)]
    await asyncio.to_thread(mesh.down)
    assert not [p for p in [*processes, *children] if p.alive()]
    assert mesh.command("status").code == 1
    assert mesh.command("down").code == 0
    begun = time.monotonic()
    # Two at once: one of them starts it, both wait for it.
    both = await asyncio.gather(asyncio.to_thread(mesh.up), asyncio.to_thread(mesh.up))
    record_property("second_up_seconds", round(time.monotonic() - begun, 1))
    assert all(password in said and mesh.url in said for said in both)
    assert all(process.alive() for process in mesh.processes())
    async with tenant.client() as again:
        agent = await again.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=agent_id))
        assert maker.canary in agent.name
        memory = await again.memories.GetMemory(
            memory_service_pb2.GetMemoryRequest(memory_id=memory_id)
        )
        assert maker.canary in memory.text


def _descendants(pid: int) -> list[ProcessId]:
    found: list[ProcessId] = []
    for task in Path("/proc", str(pid), "task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            process = ProcessId.of(child)
            found += ([process] if process else []) + _descendants(child)
    return found


@pytest.mark.disruptive
async def test_second_up_of_a_running_mesh_changes_nothing(mesh: LocalMesh) -> None:
    before = mesh.processes()
    assert mesh.url in await asyncio.to_thread(mesh.up)
    assert mesh.processes() == before


async def test_cancelled_task_stays_cancelled_over_a_restart(
    mesh: LocalMesh, client: Gathering, maker: Maker
) -> None:
    task_id = await maker.accepted()
    await client.tasks.CancelTask(task_service_pb2.CancelTaskRequest(task_id=task_id))
    await asyncio.to_thread(mesh.restart, *mesh.of("orchestrator"))
    task = await client.tasks.GetTask(task_service_pb2.GetTaskRequest(task_id=task_id))
    assert task.state == task_pb2.TASK_STATE_CANCELLED
    with pytest.raises(GatheringError) as caught:
        await client.tasks.SubmitWork(
            task_service_pb2.SubmitWorkRequest(task_id=task_id, summary="too late")
        )
    assert caught.value.reason == "WRONG_STATE"
