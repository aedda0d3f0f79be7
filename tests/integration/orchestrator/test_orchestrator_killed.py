"""Kill -9 at any moment costs nothing but time: once accepted, once started, nothing lost."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

import pytest

from gathering.events.v1 import event_pb2
from gathering.orchestrator.v1 import task_pb2
from tests.integration.orchestrator.scripts import Agents, verdict
from tests.integration.orchestrator.world import S, World

_TASKS = 3
_MOMENTS = ["StartTurn", "ConsiderOffer", "ListExecutions"]  # the soak has all, and more of each


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Killer:
    """Kills the service at moments that it chooses: when a peer is about to answer it."""

    def __init__(self, world: World, agents: Agents, moments: Sequence[str]) -> None:
        self._agents, self._peer = agents, world.agent
        self.process: asyncio.subprocess.Process | None = None
        self._chance = random.Random(7)  # noqa: S311 - moments of kills
        self._left = deque(self._chance.sample(moments, len(moments)))
        for each in (world.agent, world.skills):
            each.on_answer = self._told

    def _told(self, rpc: str) -> None:
        process = self.process
        if process is None or process.returncode is not None or rpc not in self._left:
            return
        self._left.remove(rpc)
        if rpc == "StartTurn":
            newest = next(reversed(self._peer.turns.values()))
            self._agents.unheard.add(newest.request_id)
        self.process = None
        process.send_signal(signal.SIGKILL)

    @property
    def is_done(self) -> bool:
        return not self._left


@pytest.mark.timeout(240)
async def test_tasks_complete_whenever_the_service_is_killed(idle: World, agents: Agents) -> None:
    await survive(idle, agents, _MOMENTS, _TASKS)


async def survive(idle: World, agents: Agents, moments: Sequence[str], tasks: int) -> None:
    """Kill the service at each of the moments while it works on tasks; check what was promised."""
    idle.overrides |= {"lease": 1.0, "turn_check": 2.0}
    agents.pause = 0.05
    agents.reviews.extend(
        verdict("changes_requested", ["Names lines"]) if n % 3 == 0 else verdict() for n in range(9)
    )
    user, killer, port = idle.caller(), Killer(idle, agents, moments), free_port()
    async with idle.process(port):
        workspace = idle.skills.workspace(user.tenant)
        members = [user.agent(f"Agent {n}", 2, python=0.9 - n / 10) for n in range(3)]
        circle = await user.circle(*members, workspace_id=workspace, max_rounds=5)
        made = [
            (await user.task(circle.circle_id, required_competences=["python"])).task_id
            for _ in range(tasks)
        ]
    lives = 0
    while not killer.is_done:
        lives += 1
        async with idle.process(port) as process:
            killer.process = process
            await process.wait()
    async with idle.process(port):
        for task_id in made:
            task = await user.reach(task_id, S.TASK_STATE_COMPLETED, seconds=60)
            await _is_whole(idle, task)
    assert lives == len(moments)
    assert sum(idle.agent.requests.values()) > len(idle.agent.requests), "no start was repeated"


async def _is_whole(world: World, task: task_pb2.Task) -> None:
    """Check what was promised about one task."""
    accepted = [one for one in task.offers if one.state == task_pb2.OFFER_STATE_ACCEPTED]
    assert [one.agent_id for one in accepted] == [task.assigned_agent_id]
    turns = [turn for turn in world.agent.turns.values() if turn.turn.task_id == task.task_id]
    work = Counter(turn.request_id for turn in turns if not turn.is_review)
    assert work == {f"{task.task_id}:work:{n}": 1 for n in range(1, task.round + 1)}
    assert len([turn for turn in turns if turn.is_review]) == len(task.reviews) == task.round
    events = await world.events(task.task_id)
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    _in_order(events)
    started = {e.task_started.turn_id for e in events if e.type == "task_started"}
    assert started == {turn.turn.turn_id for turn in turns if not turn.is_review}


_AFTER = {
    "task_created": {"task_offered"},
    "task_offered": {"offer_accepted", "offer_declined", "offer_expired"},
    "offer_declined": {"task_offered"},
    "offer_expired": {"task_offered"},
    "offer_accepted": {"task_started"},
    "task_started": {"task_submitted"},
    "task_submitted": {"review_requested"},
    "review_requested": {"review_completed"},
    "review_completed": {"task_started", "task_completed"},
    "task_completed": set(),
}


def _in_order(events: list[event_pb2.Event]) -> None:
    seen: defaultdict[str, int] = defaultdict(int)
    for before, after in zip(events, [*events[1:], None], strict=True):
        seen[before.type] += 1
        if after is not None:
            assert after.type in _AFTER[before.type], (before.type, after.type)
    assert (seen["task_created"], seen["offer_accepted"], seen["task_completed"]) == (1, 1, 1)


async def test_two_replicas_share_the_work_and_do_nothing_twice(
    idle: World, agents: Agents
) -> None:
    agents.pause = 0.02
    user = idle.caller()
    async with idle.serving(), idle.serving():
        members = [user.agent(f"Agent {n}", 3, python=0.9 - n / 10) for n in range(3)]
        circle = await user.circle(*members)
        made = [
            (await user.task(circle.circle_id, required_competences=["python"])).task_id
            for _ in range(8)
        ]
        for task_id in made:
            await _is_whole(idle, await user.reach(task_id, S.TASK_STATE_COMPLETED))
    assert set(idle.agent.requests.values()) == {1}


async def test_repeats_after_a_restart_give_the_first_results(idle: World, agents: Agents) -> None:
    user = idle.caller()
    agent = user.agent("Outside")
    async with idle.serving():
        first = await user.call("CreateCircle", circle={"name": "A"}, request_id="circle")
        circle_id = first.circle_id
        member = {"agent_id": agent, "mode": 2}
        await user.call("AddMember", circle_id=circle_id, member=member, request_id="member")
        asked = {"circle_id": circle_id, "title": "Work", "request_id": "task"}
        task = await user.call("CreateTask", **asked)
        offered = await user.reach(task.task_id, S.TASK_STATE_OFFERED)
        answer = {"task_id": task.task_id, "offer_id": offered.offers[0].offer_id}
        await user.call("AcceptOffer", **answer, request_id="accept")
        work = {"task_id": task.task_id, "summary": "done", "request_id": "work"}
        await user.call("SubmitWork", **work)
        await user.reach(task.task_id, S.TASK_STATE_ESCALATED)  # there is no peer
        decision = {"task_id": task.task_id, "verdict": 1, "request_id": "review"}
        await user.call("SubmitReview", **decision)
    async with idle.serving():
        again = await user.call("CreateCircle", circle={"name": "A"}, request_id="circle")
        assert again.circle_id == circle_id
        await user.call("AddMember", circle_id=circle_id, member=member, request_id="member")
        for rpc, fields in (
            ("CreateTask", asked), ("AcceptOffer", {**answer, "request_id": "accept"}),
            ("SubmitWork", work), ("SubmitReview", decision),
        ):  # fmt: skip
            repeated = await user.call(rpc, **fields)
            assert repeated.task_id == task.task_id
            assert repeated.state == S.TASK_STATE_COMPLETED
        types = Counter(event.type for event in await idle.events(task.task_id))
        assert set(types.values()) == {1}
