"""Offers: who is asked, what answers do, what happens when nobody answers."""

from __future__ import annotations

import asyncio

import pytest

from gathering.agent.v1 import agent_pb2
from gathering.events.v1 import event_pb2
from gathering.orchestrator.v1 import circle_pb2, task_pb2
from gathering_mesh.errors import DomainError, FailedPrecondition, NotFound
from tests.integration.orchestrator.scripts import Agents
from tests.integration.orchestrator.world import Caller, S, World
from tests.support.waiting import eventually

OPEN = task_pb2.OFFER_STATE_OPEN


async def open_offer(user: Caller, task_id: str, agent_id: str) -> task_pb2.Offer:
    """Wait until a task is offered to an agent."""
    found: list[task_pb2.Offer] = []

    async def there() -> bool:
        offers = (await user.get(task_id)).offers
        found[:] = [one for one in offers if one.state == OPEN and one.agent_id == agent_id]
        return bool(found)

    await eventually(there, f"an offer to {agent_id}")
    return found[0]


async def test_unanswered_offer_expires_and_the_next_candidate_is_asked(world: World) -> None:
    user = world.caller()
    silent, next_one = user.agent("Silent", python=0.9), user.agent("Next", python=0.5)
    circle = await user.circle(next_one, external=(silent,), timeout=1, requires_review=False)

    made = await user.task(circle.circle_id, required_competences=["python"])
    task = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)

    first, second = task.offers
    assert (first.agent_id, first.state) == (silent, task_pb2.OFFER_STATE_EXPIRED)
    assert first.answer_time.ToDatetime() >= first.expire_time.ToDatetime()
    assert second.agent_id == task.assigned_agent_id == next_one
    with pytest.raises(FailedPrecondition) as refusal:
        await user.call("AcceptOffer", task_id=task.task_id, offer_id=first.offer_id)
    assert refusal.value.reason == "OFFER_CLOSED"


async def test_external_members_work_and_review_by_rpc(world: World) -> None:
    user = world.caller()
    author, critic = user.agent("Author", python=0.9), user.agent("Critic")
    circle = await user.circle(external=(author, critic))
    made = await user.task(circle.circle_id, required_competences=["python"])
    task_id = made.task_id
    offer = await open_offer(user, task_id, author)

    begun = await user.call("AcceptOffer", task_id=task_id, offer_id=offer.offer_id)
    assert (begun.state, begun.round) == (S.TASK_STATE_RUNNING, 1)
    await user.call("AcceptOffer", task_id=task_id, offer_id=offer.offer_id)  # idempotent
    artifact = task_pb2.TaskArtifact(path="a.md", sha256="a" * 64, size_bytes=3)
    await user.call("SubmitWork", task_id=task_id, summary="done", artifacts=[artifact])
    task = await user.reach(task_id, S.TASK_STATE_IN_REVIEW)

    async def asked() -> bool:
        return bool((await user.get(task_id)).reviews)

    await eventually(asked, "a review is asked for")
    review = (await user.get(task_id)).reviews[0]
    assert review.reviewer_agent_id == critic
    decision = {"task_id": task_id, "review_id": review.review_id}
    changes = task_pb2.REVIEW_VERDICT_CHANGES_REQUESTED
    again = await user.call("SubmitReview", verdict=changes, comment="more", **decision)
    assert (again.state, again.round) == (S.TASK_STATE_RUNNING, 2)
    with pytest.raises(FailedPrecondition):
        await user.call("SubmitReview", verdict=changes, **decision)
    assert [one.path for one in again.artifacts] == ["a.md"]
    await user.call("SubmitWork", task_id=task_id, summary="done again")
    await eventually(lambda: _reviews(user, task_id, 2), "a second review is asked for")
    second = (await user.get(task_id)).reviews[1]
    task = await user.call(
        "SubmitReview", task_id=task_id, review_id=second.review_id,
        verdict=task_pb2.REVIEW_VERDICT_APPROVED,
    )  # fmt: skip
    assert task.state == S.TASK_STATE_COMPLETED
    assert list(task.artifacts) == []
    started = [e.task_started for e in await world.events(task_id) if e.type == "task_started"]
    assert [(one.round, one.turn_id) for one in started] == [(1, ""), (2, "")]


async def _reviews(user: Caller, task_id: str, count: int) -> bool:
    return len((await user.get(task_id)).reviews) == count


async def test_declined_by_rpc_goes_to_the_next_and_then_to_a_human(world: World) -> None:
    user = world.caller()
    first, second = user.agent("First"), user.agent("Second")
    circle = await user.circle(external=(first, second))
    made = await user.task(circle.circle_id)
    for agent in (first, second):
        offer = await open_offer(user, made.task_id, agent)
        await user.call(
            "DeclineOffer", task_id=made.task_id, offer_id=offer.offer_id, message="no time"
        )
    task = await user.reach(made.task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == "no_candidate: all 2 candidates declined or did not answer"
    assert [(one.reason, one.message) for one in task.offers] == [("other", "no time")] * 2
    events = await world.events(made.task_id)
    assert events[-1].task_escalated.reason == "no_candidate"


async def test_offers_to_managed_members_are_not_answered_by_rpc(world: World) -> None:
    user = world.caller()
    world.agent.down.add("ConsiderOffer")
    agent = user.agent("Agent")
    circle = await user.circle(agent)
    made = await user.task(circle.circle_id)
    offer = await open_offer(user, made.task_id, agent)
    for rpc in ("AcceptOffer", "DeclineOffer"):
        with pytest.raises(FailedPrecondition) as refusal:
            await user.call(rpc, task_id=made.task_id, offer_id=offer.offer_id)
        assert refusal.value.reason == "WRONG_STATE"


async def test_agent_service_that_comes_back_in_time_is_asked_again(world: World) -> None:
    user = world.caller()
    world.agent.down.add("ConsiderOffer")
    agent = user.agent("Agent")
    circle = await user.circle(agent, requires_review=False)
    made = await user.task(circle.circle_id)
    await open_offer(user, made.task_id, agent)
    world.agent.down.clear()
    task = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)
    assert len(task.offers) == 1


async def test_offer_that_could_not_be_made_known_expires_and_is_made_again(world: World) -> None:
    user = world.caller()
    world.agent.down.add("ConsiderOffer")
    agent = user.agent("Agent")
    circle = await user.circle(agent, timeout=1, requires_review=False)
    made = await user.task(circle.circle_id)

    async def expired() -> bool:
        offers = (await user.get(made.task_id)).offers
        return bool(offers) and offers[0].state == task_pb2.OFFER_STATE_EXPIRED

    await eventually(expired, "the offer expires")
    world.agent.down.clear()
    task = await user.reach(made.task_id, S.TASK_STATE_COMPLETED)
    assert task.offers[-1].state == task_pb2.OFFER_STATE_ACCEPTED


@pytest.mark.parametrize(
    ("competences", "why"),
    [
        (None, "the circle has no members"),
        ({"sql": 0.9}, "no active member has one of the competences python"),
    ],
)
async def test_task_that_nobody_can_do_goes_to_a_human_at_once(
    world: World, competences: dict[str, float] | None, why: str
) -> None:
    user = world.caller()
    members = [] if competences is None else [user.agent("Other", 1, **competences)]
    circle = await user.circle(*members)
    made = await user.task(circle.circle_id, required_competences=["python"])
    task = await user.reach(made.task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message == f"no_candidate: {why}"
    assert list(task.offers) == []


async def test_task_waits_for_its_busy_candidate_and_gets_it_at_once_when_free(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    only = user.agent("Only")
    circle = await user.circle(only, requires_review=False)
    agents.work.append(None)
    first = await user.task(circle.circle_id)
    await user.reach(first.task_id, S.TASK_STATE_RUNNING)
    second = await user.task(circle.circle_id)

    async def declined() -> bool:
        task = await user.get(second.task_id)
        return task.state == S.TASK_STATE_PENDING and len(task.offers) == 1

    await eventually(declined, "the second task waits")
    world.agent.complete(agents.held[0], {"summary": "at last"})
    task = await user.reach(second.task_id, S.TASK_STATE_COMPLETED)
    assert [offer.reason for offer in task.offers] == ["at_capacity", ""]


async def test_one_agent_never_gets_more_tasks_at_once_than_its_limit(
    world: World, agents: Agents
) -> None:
    user = world.caller()
    agents.pause = 0.02
    one = user.agent("One", limit=2)
    circles = [await user.circle(one, requires_review=False) for _ in range(3)]
    made = [await user.task(circle.circle_id) for circle in circles * 3]
    for task in made:
        await user.reach(task.task_id, S.TASK_STATE_COMPLETED, seconds=40)

    at_once = most = 0
    for kind in await logged(world):
        at_once += {"offer_accepted": 1, "task_completed": -1}.get(kind, 0)
        most = max(most, at_once)
    assert (at_once, most) == (0, 2)


async def logged(world: World) -> list[str]:
    """Return the types of all events of the log in its order, which is that of the commits."""
    rows = await world.rows("select event from orchestrator.log order by position")
    return [event_pb2.Event.FromString(row["event"]).type for row in rows]


async def test_only_one_of_many_acceptances_counts(world: World) -> None:
    user = world.caller()
    agent = user.agent("Outside")
    circle = await user.circle(external=(agent,))
    made = await user.task(circle.circle_id)
    offer = await open_offer(user, made.task_id, agent)

    async def answer(rpc: str) -> str:
        try:
            await user.call(rpc, task_id=made.task_id, offer_id=offer.offer_id)
        except DomainError as error:
            return error.reason
        return "OK"

    rpcs = ["AcceptOffer", "DeclineOffer"] * 8
    answers = await asyncio.gather(*map(answer, rpcs))
    winners = {rpc for rpc, said in zip(rpcs, answers, strict=True) if said == "OK"}
    assert len(winners) == 1
    assert set(answers) == {"OK", "OFFER_CLOSED"}
    types = [event.type for event in await world.events(made.task_id)]
    assert types.count("offer_accepted") + types.count("offer_declined") == 1


async def test_offer_to_a_removed_member_is_withdrawn(world: World) -> None:
    user = world.caller()
    leaving, staying = user.agent("Leaving", python=0.9), user.agent("Staying", python=0.1)
    circle = await user.circle(external=(leaving, staying))
    made = await user.task(circle.circle_id, required_competences=["python"])
    offer = await open_offer(user, made.task_id, leaving)

    await user.call("RemoveMember", circle_id=circle.circle_id, agent_id=leaving)

    task = await user.get(made.task_id)
    assert task.offers[0].state == task_pb2.OFFER_STATE_WITHDRAWN
    with pytest.raises(FailedPrecondition):
        await user.call("AcceptOffer", task_id=made.task_id, offer_id=offer.offer_id)
    await open_offer(user, made.task_id, staying)


async def test_archived_agent_declines_and_is_no_candidate_afterwards(world: World) -> None:
    user = world.caller()
    agent = user.agent("Agent")
    circle = await user.circle(agent)
    world.agent.change(agent, state=agent_pb2.AGENT_STATE_ARCHIVED)
    made = await user.task(circle.circle_id)
    task = await user.reach(made.task_id, S.TASK_STATE_ESCALATED)
    assert task.state_message.startswith("no_candidate:")


async def test_agent_that_says_it_is_archived_is_read_anew(world: World) -> None:
    user = world.caller()
    agent = user.agent("Agent")
    circle = await user.circle(agent)
    # Not said in the log: archived in the moment before it joined.
    world.agent.agents[agent][1].state = agent_pb2.AGENT_STATE_ARCHIVED
    made = await user.task(circle.circle_id)
    task = await user.reach(made.task_id, S.TASK_STATE_ESCALATED)
    assert [offer.reason for offer in task.offers] == ["archived"]
    second: list[task_pb2.Task] = []

    async def known() -> bool:
        made_again = await user.task(circle.circle_id)
        second.append(await user.reach(made_again.task_id, S.TASK_STATE_ESCALATED))
        return not second[-1].offers

    await eventually(known, "the circle knows")
    assert second[-1].state_message == "no_candidate: all members are archived"


async def test_new_member_is_asked_for_waiting_tasks(world: World, agents: Agents) -> None:
    user = world.caller()
    busy = user.agent("Busy")
    circle = await user.circle(busy, requires_review=False)
    agents.work.append(None)
    await user.reach((await user.task(circle.circle_id)).task_id, S.TASK_STATE_RUNNING)
    waiting = await user.task(circle.circle_id)
    await eventually(lambda: _declined(user, waiting.task_id), "the task waits")

    fresh = user.agent("Fresh")
    member = circle_pb2.Member(agent_id=fresh)
    await user.call("AddMember", circle_id=circle.circle_id, member=member)

    task = await user.reach(waiting.task_id, S.TASK_STATE_COMPLETED)
    assert task.assigned_agent_id == fresh


async def _declined(user: Caller, task_id: str) -> bool:
    task = await user.get(task_id)
    return task.state == S.TASK_STATE_PENDING and bool(task.offers)


async def test_offer_of_another_task_is_not_found(world: World) -> None:
    user = world.caller()
    agent = user.agent("Outside", limit=2)
    circle = await user.circle(external=(agent,))
    one, other = [await user.task(circle.circle_id) for _ in range(2)]
    offer = await open_offer(user, one.task_id, agent)
    with pytest.raises(NotFound):
        await user.call("AcceptOffer", task_id=other.task_id, offer_id=offer.offer_id)
