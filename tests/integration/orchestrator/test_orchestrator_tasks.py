"""Tasks from outside: cancelling, watching, listing, repeating, refusing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from gathering.agent.v1 import budget_pb2
from gathering.orchestrator.v1 import task_pb2, task_service_pb2, task_service_pb2_grpc
from gathering_mesh.errors import (
    Aborted,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from gathering_mesh.ids import new_id
from gathering_orchestrator.app import App
from tests.integration.orchestrator.scripts import Agents, verdict
from tests.integration.orchestrator.world import Caller, S, World
from tests.support.waiting import eventually


async def watch(user: Caller, task_id: str) -> list[task_service_pb2.WatchTaskResponse]:
    """Return all messages of a watch, until the stream ends."""
    async with grpc.aio.insecure_channel(user.world.address) as channel:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        request = task_service_pb2.WatchTaskRequest(task_id=task_id)
        return [one async for one in stub.WatchTask(request, metadata=user.metadata())]


async def test_cancelled_task_cancels_its_turn_and_gives_the_permission_back(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Agent"))
    agents.work.append(None)
    made = await user.task(circle.circle_id)
    await user.reach(made.task_id, S.TASK_STATE_RUNNING)

    task = await user.call("CancelTask", task_id=made.task_id)

    assert task.state == S.TASK_STATE_CANCELLED
    again = await user.call("CancelTask", task_id=made.task_id)
    assert again == task

    async def settled() -> bool:
        delegations = [d for d, p in world.gateway.purposes.items() if p == made.task_id]
        return world.agent.calls["CancelTurn"] == 1 and set(delegations) <= world.gateway.revoked

    await eventually(settled, "turn and permission are ended")
    assert [event.type for event in await world.events(made.task_id)][-1] == "task_cancelled"


async def test_turn_whose_id_was_never_heard_is_cancelled_too(world: World, agents: Agents) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Agent"))
    agents.work.append(None)
    world.agent.lost_answers.add("StartTurn")
    made = await user.task(circle.circle_id)

    async def asked() -> bool:
        return bool(world.agent.turns)

    await eventually(asked, "the turn runs")
    await user.call("CancelTask", task_id=made.task_id)

    async def cancelled() -> bool:
        return world.agent.calls["CancelTurn"] >= 1

    await eventually(cancelled, "the turn is cancelled")
    assert len(world.agent.turns) == 1


async def test_cancelled_while_offered_withdraws_the_offer(world: World) -> None:
    user = world.caller()
    circle = await user.circle(external=(user.agent("Outside"),))
    made = await user.task(circle.circle_id)
    await user.reach(made.task_id, S.TASK_STATE_OFFERED)
    task = await user.call("CancelTask", task_id=made.task_id)
    assert [offer.state for offer in task.offers] == [task_pb2.OFFER_STATE_WITHDRAWN]


async def test_ended_task_is_not_cancelled(world: World) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Agent"), requires_review=False)
    made = await user.task(circle.circle_id)
    done = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)
    assert (await user.call("CancelTask", task_id=made.task_id)).state == done.state


async def test_watch_shows_each_state_and_ends_with_the_task(world: World, agents: Agents) -> None:
    user = world.caller()
    agents.pause = 0.3
    circle = await user.circle(user.agent("Author", python=0.9), user.agent("Critic"))
    made = await user.task(circle.circle_id, required_competences=["python"])

    messages = await asyncio.wait_for(watch(user, made.task_id), 20)

    states = [message.task.state for message in messages]
    assert {S.TASK_STATE_RUNNING, S.TASK_STATE_IN_REVIEW} <= set(states)
    assert [message.end for message in messages] == [False] * (len(messages) - 1) + [True]
    assert states[-1] == S.TASK_STATE_COMPLETED
    assert len(await watch(user, made.task_id)) == 1


async def test_watch_is_told_to_come_again_when_the_server_drains(
    idle: World, agents: Agents
) -> None:
    user = idle.caller()
    agents.work.append(None)
    async with idle.serving() as app:
        circle = await user.circle(user.agent("Agent"))
        made = await user.task(circle.circle_id)
        await user.reach(made.task_id, S.TASK_STATE_RUNNING)
        watching = asyncio.create_task(watch(user, made.task_id))
        await eventually(lambda: _watched(app), "somebody watches")
        await app.server.stop(5.0)
        messages = await watching
    assert messages[-1].reconnect == "draining"
    assert not messages[-1].end


async def _watched(app: App) -> bool:
    return bool(app.signals.watched)


async def test_watch_of_an_unknown_task_is_refused(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await watch(world.caller(), new_id("tsk"))
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


async def test_repeated_creation_gives_the_first_task_and_another_body_is_refused(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Agent"))
    agents.work.append(None)
    asked = {"circle_id": circle.circle_id, "request_id": "one", "title": "A"}
    tasks = await asyncio.gather(
        *(user.call("CreateTask", **asked) for _ in range(5)), return_exceptions=True
    )
    made = {task.task_id for task in tasks if isinstance(task, task_pb2.Task)}
    others = [error for error in tasks if not isinstance(error, task_pb2.Task)]
    assert len(made) == 1
    assert all(isinstance(error, Aborted) for error in others)
    with pytest.raises(InvalidArgument) as refusal:
        await user.call("CreateTask", **{**asked, "title": "B"})
    assert refusal.value.reason == "REQUEST_ID_REUSED"
    listed = await user.call("ListTasks")
    assert {task.task_id for task in listed.tasks} == made
    kept = set(world.gateway.delegations) - world.gateway.revoked
    assert {world.gateway.purposes[one] for one in kept} == {circle.circle_id, *made}


async def test_lists_are_paged_and_narrowed(world: World, agents: Agents) -> None:
    user = world.caller()
    one, other = [await user.circle() for _ in range(2)]
    made = [(await user.task(one.circle_id)).task_id for _ in range(5)]
    await user.task(other.circle_id)
    for task_id in made:
        await user.reach(task_id, S.TASK_STATE_ESCALATED)
    found: list[str] = []
    token = ""
    while True:
        page = await user.call(
            "ListTasks", circle_id=one.circle_id, page_size=2, page_token=token,
            state=S.TASK_STATE_ESCALATED,
        )  # fmt: skip
        found += [task.task_id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]
    none = await user.call("ListTasks", state=S.TASK_STATE_RUNNING)
    assert list(none.tasks) == []
    first = await user.call("ListTasks", page_size=1)
    with pytest.raises(InvalidArgument) as refusal:
        await user.call("ListTasks", page_token=first.next_page_token, circle_id=one.circle_id)
    assert refusal.value.reason == "INVALID_PAGE_TOKEN"


async def test_missing_circle_workspace_and_fields_are_refused(world: World) -> None:
    user = world.caller()
    circle = await user.circle()
    with pytest.raises(NotFound):
        await user.task(new_id("crc"))
    with pytest.raises(NotFound):
        await user.task(circle.circle_id, workspace_id=new_id("wsp"))
    with pytest.raises(InvalidArgument) as refusal:
        await user.task(circle.circle_id, title="")
    assert "title" in refusal.value.fields


async def test_revoked_permission_fails_the_task(world: World, agents: Agents) -> None:
    user = world.caller()
    circle = await user.circle(external=(user.agent("Outside"),), timeout=1)
    made = await user.task(circle.circle_id, requires_review=False)
    await user.reach(made.task_id, S.TASK_STATE_OFFERED)
    for delegation, purpose in world.gateway.purposes.items():
        if purpose == made.task_id:
            world.gateway.revoked.add(delegation)
    managed = user.agent("Managed")
    await user.call("AddMember", circle_id=circle.circle_id, member={"agent_id": managed})
    task = await user.reach(made.task_id, S.TASK_STATE_FAILED)
    assert "revoked" in task.state_message
    assert (await world.events(made.task_id))[-1].task_failed.reason == "CREDENTIALS_REVOKED"


async def test_every_rpc_is_refused_without_token_or_scope(world: World) -> None:
    viewer = world.caller(scopes="tasks.read circles.read")
    with pytest.raises(PermissionDenied) as refusal:
        await viewer.call("CreateTask", circle_id=new_id("crc"), title="A")
    assert refusal.value.reason == "SCOPE_MISSING"
    async with grpc.aio.insecure_channel(world.address) as channel:
        stub = task_service_pb2_grpc.TaskServiceStub(channel)
        for rpc, request in (
            (stub.GetTask, task_service_pb2.GetTaskRequest(task_id=new_id("tsk"))),
            (stub.CreateTask, task_service_pb2.CreateTaskRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await _plain(rpc, request)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def _plain(rpc: Any, request: Any) -> Any:
    return await rpc(request, timeout=10)


async def test_task_is_not_created_while_permission_cannot_be_had(world: World) -> None:
    user = world.caller()
    circle = await user.circle()
    world.gateway.down.add("CreateDelegation")
    with pytest.raises(Unavailable):
        await user.task(circle.circle_id)
    assert list((await user.call("ListTasks")).tasks) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"title": "  "}, "title"),
        ({"acceptance_criteria": ["a", " "]}, "acceptance_criteria[1]"),
        ({"required_competences": [""]}, "required_competences[0]"),
    ],
)
async def test_blank_fields_are_refused_by_name(
    world: World, fields: dict[str, Any], named: str
) -> None:
    user = world.caller()
    circle = await user.circle()
    with pytest.raises(InvalidArgument) as refusal:
        await user.task(circle.circle_id, **fields)
    assert named in refusal.value.fields


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../../b"])
async def test_artifacts_outside_of_the_workspace_are_refused(world: World, path: str) -> None:
    user = world.caller()
    circle = await user.circle(external=(user.agent("Outside"),))
    made = await user.task(circle.circle_id)
    task = await user.reach(made.task_id, S.TASK_STATE_OFFERED)
    await user.call("AcceptOffer", task_id=task.task_id, offer_id=task.offers[0].offer_id)
    artifact = task_pb2.TaskArtifact(path=path, sha256="a" * 64)
    with pytest.raises(InvalidArgument):
        await user.call("SubmitWork", task_id=task.task_id, summary="A", artifacts=[artifact])


async def test_text_of_a_model_that_the_database_refuses_is_cleaned(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Author", python=0.9), user.agent("Critic"))
    agents.work.append({"summary": "a\0b"})
    agents.reviews.append(verdict(comment="c\0d"))
    made = await user.task(circle.circle_id, required_competences=["python"])
    task = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)
    assert (task.summary, task.reviews[0].comment) == ("ab", "cd")


async def test_step_that_keeps_failing_inside_goes_to_a_human(world: World) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Agent"))
    world.agent.broken.add("StartTurn")
    made = await user.task(circle.circle_id)

    async def failing() -> bool:
        rows = await world.rows(
            "select 1 from orchestrator.work where id = $1 and last_error <> ''", made.task_id
        )
        return bool(rows)

    await eventually(failing, "the step fails")
    await world.rows(
        "update orchestrator.work set attempt = 9, due_at = now() where id = $1", made.task_id
    )
    task = await user.reach(made.task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == "work_failed: a step failed 10 times: Internal"
    world.agent.broken.clear()
    await user.call("SubmitReview", task_id=made.task_id, verdict=2, comment="again")
    await user.reach(made.task_id, S.TASK_STATE_ESCALATED)  # there is no reviewer
    assert len(world.agent.turns) == 1


async def test_budget_of_a_task_is_set_before_it_is_worked_on(world: World, agents: Agents) -> None:
    user = world.caller()
    circle = await user.circle(user.agent("Agent"))
    caps = budget_pb2.BudgetCaps(max_tokens=1000, max_cost_micro_usd=0)
    caps.max_wall_time.FromSeconds(60)
    given = {"circle_id": circle.circle_id, "title": "Do", "budget": caps, "request_id": "once"}
    top = await user.call("CreateTask", **given)
    assert (await user.call("CreateTask", **given)).task_id == top.task_id
    below = await user.task(circle.circle_id, parent_task_id=top.task_id)
    assert below.parent_task_id == top.task_id
    await user.task(circle.circle_id)
    first, second = world.agent.budgets
    assert (first.subject_id, first.caps, first.parent_task_id) == (top.task_id, caps, "")
    assert (second.subject_id, second.parent_task_id) == (below.task_id, top.task_id)
    assert second.caps == budget_pb2.BudgetCaps()

    world.agent.down.add("SetBudget")
    with pytest.raises(Unavailable):
        await user.task(circle.circle_id, budget=caps)
    other = replace(user, user=new_id("usr"))
    with pytest.raises(PermissionDenied):
        await other.task(circle.circle_id, parent_task_id=top.task_id)
    with pytest.raises(NotFound):
        await user.task(circle.circle_id, parent_task_id=new_id("tsk"))
