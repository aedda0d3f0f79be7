"""The whole path of a task: offer, decline, next offer, work, review, changes, approval."""

from __future__ import annotations

from gathering.orchestrator.v1 import task_pb2
from tests.integration.orchestrator.scripts import Agents, verdict
from tests.integration.orchestrator.world import S, World


async def test_task_is_declined_by_the_best_worked_on_by_the_next_and_approved_by_a_peer(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    best = user.agent("Best", python=0.95, review=0.9)
    second = user.agent("Second", python=0.7)
    critic = user.agent("Critic", writing=0.8)
    workspace = world.skills.workspace(user.tenant)
    circle = await user.circle(best, second, critic, workspace_id=workspace)
    agents.work.append(None)  # Best stays busy with its first task
    first = await user.task(circle.circle_id, required_competences=["python", "review"])
    await user.reach(first.task_id, S.TASK_STATE_RUNNING)
    agents.reviews.append(verdict("changes_requested", ["Names lines"], "lines are missing"))

    made = await user.task(circle.circle_id, required_competences=["python", "review"])
    task = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)

    assert [(offer.agent_id, offer.state, offer.reason) for offer in task.offers] == [
        (best, task_pb2.OFFER_STATE_DECLINED, "at_capacity"),
        (second, task_pb2.OFFER_STATE_ACCEPTED, ""),
    ]
    assert task.offers[0].score > task.offers[1].score
    assert task.assigned_agent_id == second
    assert task.round == 2
    assert [(one.reviewer_agent_id, one.verdict, one.score) for one in task.reviews] == [
        (task.reviews[0].reviewer_agent_id, task_pb2.REVIEW_VERDICT_CHANGES_REQUESTED, 0.5),
        (task.reviews[0].reviewer_agent_id, task_pb2.REVIEW_VERDICT_APPROVED, 1.0),
    ]
    assert task.reviews[0].reviewer_agent_id != second
    assert [artifact.path for artifact in task.artifacts] == ["REVIEW.md"]
    assert [event.type for event in await world.events(task.task_id)] == [
        "task_created", "task_offered", "offer_declined", "task_offered", "offer_accepted",
        "task_started", "task_submitted", "review_requested", "review_completed", "task_started",
        "task_submitted", "review_requested", "review_completed", "task_completed",
    ]  # fmt: skip
