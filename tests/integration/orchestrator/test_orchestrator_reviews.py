"""Reviews: rounds, verdicts, results that cannot be used, and humans who decide."""

from __future__ import annotations

import pytest

from gathering.agent.v1 import agent_pb2
from gathering.orchestrator.v1 import task_pb2
from gathering_mesh.errors import FailedPrecondition
from tests.integration.orchestrator.scripts import Agents, verdict
from tests.integration.orchestrator.world import Caller, S, World
from tests.support.waiting import eventually

APPROVED = task_pb2.REVIEW_VERDICT_APPROVED
CHANGES = task_pb2.REVIEW_VERDICT_CHANGES_REQUESTED
REJECTED = task_pb2.REVIEW_VERDICT_REJECTED


async def given(user: Caller, *names: str, **fields: object) -> str:
    """Return a new circle of agents with these names; the first is the best candidate."""
    agents = [
        user.agent(name, python=round(0.9 - 0.2 * number, 2)) for number, name in enumerate(names)
    ]
    return (await user.circle(*agents, **fields)).circle_id  # type: ignore[arg-type]  # its own


async def started(user: Caller, circle_id: str) -> str:
    """Return a new task for the best python programmer."""
    return (await user.task(circle_id, required_competences=["python"])).task_id


async def test_rounds_are_bounded_and_a_human_has_the_last_word(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic", max_rounds=2)
    agents.reviews.extend([verdict("changes_requested", ["Names lines"])] * 2)
    task_id = await started(user, circle_id)

    task = await user.reach(task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message.startswith("rounds_exhausted:")
    assert task.round == 2
    human = world.caller(user.tenant)
    again = await human.call("SubmitReview", task_id=task_id, verdict=CHANGES, comment="once more")
    assert again.state == S.TASK_STATE_RUNNING
    task = await user.reach(task_id, S.TASK_STATE_COMPLETED)
    assert task.round == 3
    decided = task.reviews[2]
    assert (decided.reviewer_user_id, decided.reviewer_agent_id) == (human.user, "")
    prompt = next(t.text for t in world.agent.turns.values() if t.request_id.endswith(":work:3"))
    assert "Comment: once more" in prompt


async def test_author_is_told_what_was_not_met(world: World, agents: Agents) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic")
    agents.reviews.append(verdict("changes_requested", ["Names lines"], "lines, please"))
    task_id = await started(user, circle_id)
    await user.reach(task_id, S.TASK_STATE_COMPLETED)

    work = [t for t in world.agent.turns.values() if not t.is_review]
    assert "Comment: lines, please" in work[1].text
    assert "Not met: Names lines" in work[1].text
    assert work[0].turn.session_id == work[1].turn.session_id
    reviews = [t for t in world.agent.turns.values() if t.is_review]
    assert len({t.turn.agent_id for t in reviews}) == 1, "who asked for changes looks at them"
    assert len({t.turn.session_id for t in reviews}) == 2


@pytest.mark.parametrize(
    ("decision", "state"), [(APPROVED, S.TASK_STATE_COMPLETED), (REJECTED, S.TASK_STATE_FAILED)]
)
async def test_rejected_work_waits_for_a_human(
    world: World,
    agents: Agents,
    decision: task_pb2.ReviewVerdict.ValueType,
    state: task_pb2.TaskState.ValueType,
) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic")
    agents.reviews.append(verdict("rejected", comment="not at all"))
    task_id = await started(user, circle_id)
    task = await user.reach(task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == "rejected: not at all"

    task = await user.call("SubmitReview", task_id=task_id, verdict=decision, comment="so be it")

    assert task.state == state
    assert task.HasField("end_time")
    if state == S.TASK_STATE_FAILED:
        assert task.state_message == "so be it"
        assert (await world.events(task_id))[-1].task_failed.reason == "rejected"


async def test_without_a_peer_a_human_decides(world: World) -> None:
    user = world.caller()
    circle_id = await given(user, "Alone")
    task_id = await started(user, circle_id)
    task = await user.reach(task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == "no_reviewer: no other active member may review"
    await user.call("SubmitReview", task_id=task_id, verdict=APPROVED)
    assert (await user.get(task_id)).state == S.TASK_STATE_COMPLETED


async def test_unusable_review_is_asked_for_once_more_with_the_reason(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic")
    agents.reviews.append({"verdict": "approved", "comment": "", "criteria": []})
    task_id = await started(user, circle_id)
    task = await user.reach(task_id, S.TASK_STATE_COMPLETED)

    assert len(task.reviews) == 1
    asked = [turn for turn in world.agent.turns.values() if turn.is_review]
    assert len(asked) == 2
    assert "cannot be used: 0 of 2 criteria are answered." in asked[1].text
    assert asked[0].turn.session_id == asked[1].turn.session_id


async def test_review_that_stays_unusable_goes_to_a_human(world: World, agents: Agents) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic")
    agents.reviews.extend([{"verdict": "hm"}, RuntimeError("MODEL_FAILED")])
    task_id = await started(user, circle_id)
    task = await user.reach(task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == (
        "no_reviewer: the review of Critic cannot be used: the turn was failed (MODEL_FAILED)"
    )
    assert list(task.reviews) == []


async def test_reviewer_that_was_archived_is_replaced(world: World, agents: Agents) -> None:
    user = world.caller()
    author, critic, other = (
        user.agent(name, python=s) for name, s in (("A", 0.9), ("C", 0.6), ("O", 0.3))
    )
    circle = await user.circle(author, critic, other)
    agents.work.append(None)
    task_id = await started(user, circle.circle_id)
    await user.reach(task_id, S.TASK_STATE_RUNNING)
    # Not said in the log, so that the circle still believes that it is there.
    world.agent.agents[critic][1].state = agent_pb2.AGENT_STATE_ARCHIVED
    world.agent.complete(agents.held[0], {"summary": "done"})
    task = await user.reach(task_id, S.TASK_STATE_COMPLETED)
    assert [review.reviewer_agent_id for review in task.reviews] == [other]


async def test_artifact_that_changed_since_it_was_handed_in_is_noted(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    workspace = world.skills.workspace(user.tenant)
    circle_id = await given(user, "Author", "Critic", workspace_id=workspace)
    agents.reviews.append(None)
    task_id = await started(user, circle_id)

    async def reviewing() -> bool:
        return bool(agents.held)

    await eventually(reviewing, "the review runs")
    handed_in = (await user.get(task_id)).artifacts[0]
    world.skills.files[workspace, "REVIEW.md"] = b"something else"
    world.agent.complete(agents.held[0], verdict(comment="good"))
    task = await user.reach(task_id, S.TASK_STATE_COMPLETED)
    comment = task.reviews[0].comment
    assert comment.startswith("good\n\nChanged since they were handed in:\n- REVIEW.md")
    assert handed_in.sha256 in comment


async def test_failed_turn_waits_for_a_human_who_may_have_it_tried_again(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic")
    agents.work.append(RuntimeError("MODEL_FAILED"))
    task_id = await started(user, circle_id)
    task = await user.reach(task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == "work_failed: the turn was failed: MODEL_FAILED"
    await user.call("SubmitReview", task_id=task_id, verdict=CHANGES, comment="try again")
    task = await user.reach(task_id, S.TASK_STATE_COMPLETED)
    assert task.round == 2


async def test_agent_archived_before_its_work_waits_for_a_human_and_works_when_restored(
    world: World,
) -> None:
    user = world.caller()
    author = user.agent("Author")
    circle = await user.circle(author, requires_review=False)
    world.agent.down.add("CreateSession")
    task_id = await started_any(user, circle.circle_id)
    await user.reach(task_id, S.TASK_STATE_ACCEPTED)
    agent = world.agent.agents[author][1]
    agent.state = agent_pb2.AGENT_STATE_ARCHIVED
    world.agent.down.clear()
    task = await user.reach(task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == "work_failed: the agent is archived"
    agent.state = agent_pb2.AGENT_STATE_ACTIVE
    await user.call("SubmitReview", task_id=task_id, verdict=CHANGES)
    assert (await user.reach(task_id, S.TASK_STATE_COMPLETED)).round == 1


async def started_any(user: Caller, circle_id: str) -> str:
    return (await user.task(circle_id)).task_id


async def test_humans_decide_on_escalated_tasks_only(world: World, agents: Agents) -> None:
    user = world.caller()
    circle_id = await given(user, "Author", "Critic")
    agents.work.append(None)
    task_id = await started(user, circle_id)
    await user.reach(task_id, S.TASK_STATE_RUNNING)
    for rpc, fields in (
        ("SubmitReview", {"verdict": APPROVED}),
        ("SubmitWork", {"summary": "mine"}),
    ):
        with pytest.raises(FailedPrecondition) as refusal:
            await user.call(rpc, task_id=task_id, **fields)
        assert refusal.value.reason == "WRONG_STATE"


async def test_metrics_follow_from_reviews_and_ends_and_move_the_next_offer(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    author, critic = user.agent("Author", python=0.9), user.agent("Critic", sql=0.5)
    circle = await user.circle(author, critic, max_rounds=1)
    first = await started(user, circle.circle_id)
    await user.reach(first, S.TASK_STATE_COMPLETED)
    agents.reviews.append(verdict("changes_requested", ["Names lines"]))
    second = await started(user, circle.circle_id)
    await user.reach(second, S.TASK_STATE_ESCALATED)
    await user.call("SubmitReview", task_id=second, verdict=REJECTED)

    metrics = (await user.members(circle.circle_id))[author].metrics
    assert (metrics.completed_task_count, metrics.failed_task_count) == (1, 1)
    assert metrics.review_count == 3
    assert metrics.approval_rate == pytest.approx(1 / 3)
    assert metrics.quality == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert metrics.open_task_count == 0
    third = await user.reach(await started(user, circle.circle_id), S.TASK_STATE_COMPLETED)
    parts = {part.name: part.value for part in third.offers[0].score_parts}
    assert parts["approval_rate"] == pytest.approx(1 / 3)
    assert sum(part.weight for part in third.offers[0].score_parts) == pytest.approx(1)
