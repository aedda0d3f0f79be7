"""Turns of one session, one after the other: those that wait, and those that have a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.protobuf import duration_pb2

from gathering.agent.v1 import agent_service_pb2, session_pb2, turn_pb2, turn_service_pb2
from gathering.agent.v1 import session_service_pb2 as sessions
from gathering_agent.errors import ModelRefused
from gathering_mesh.errors import DomainError, ResourceExhausted
from tests.integration.agent.harness import Caller, Scripted, Service
from tests.integration.agent.peers import Peers
from tests.integration.agent.test_agent_agents import refusal
from tests.integration.agent.test_agent_versions import two_replicas
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

QUEUE, REFUSE = turn_pb2.IF_BUSY_QUEUE, turn_pb2.IF_BUSY_REFUSE
WAITING = turn_pb2.TURN_STATE_WAITING
COMPLETED, CANCELLED, FAILED = (
    turn_pb2.TURN_STATE_COMPLETED,
    turn_pb2.TURN_STATE_CANCELLED,
    turn_pb2.TURN_STATE_FAILED,
)
USER = session_pb2.MESSAGE_ROLE_USER


@dataclass
class Busy:
    """A session whose first turn is in the middle of its answer."""

    user: Caller
    session_id: str
    live: turn_pb2.Turn

    async def queue(self, text: str, **fields: Any) -> turn_pb2.Turn:
        """Start a turn that waits."""
        return await self.user.start(self.session_id, text, if_busy=QUEUE, **fields)

    async def said(self) -> list[str]:
        """Return what users said, in the order of the conversation."""
        return [m.text for m in await self.user.messages(self.session_id) if m.role == USER]


@pytest.fixture
async def busy(service: Service, model: Scripted) -> Busy:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, "first of all")
    await asyncio.wait_for(model.begun.wait(), 10)
    return Busy(user, session.session_id, turn)


def timeout(seconds: int) -> turn_pb2.TurnLimits:
    return turn_pb2.TurnLimits(timeout=duration_pb2.Duration(seconds=seconds))


async def rows(service: Service, *statements: str) -> list[Any]:
    """Run statements as superuser; return the first column of the last."""
    admin = await asyncpg.connect(service.database.admin)
    try:
        found = [await admin.fetch(statement) for statement in statements]
    finally:
        await admin.close()
    return [row[0] for row in found[-1]]


async def kinds(frames: AsyncIterator[turn_pb2.TurnFrame]) -> list[str]:
    """Return the kinds of a stream's frames; of a turn also in which state it is said to be."""
    found = []
    async for frame in frames:
        kind = str(frame.WhichOneof("frame"))
        state = turn_pb2.TurnState.Name(frame.turn.state).removeprefix("TURN_STATE_").lower()
        found.append(f"turn {state}" if kind == "turn" else kind)
    return found


async def test_turns_that_wait_run_in_the_order_of_their_storing(
    busy: Busy, model: Scripted
) -> None:
    texts = [f"wait {n}" for n in range(5)]
    waiting = [await busy.queue(text) for text in texts]
    assert {turn.state for turn in waiting} == {WAITING}
    assert await busy.said() == ["first of all"]
    model.gate.set()
    ended = [await busy.user.ended(turn.turn_id) for turn in (busy.live, *waiting)]
    assert {turn.state for turn in ended} == {COMPLETED}
    assert [turn.text.strip() for turn in ended[1:]] == [f"You said: {text}" for text in texts]
    assert await busy.said() == ["first of all", *texts]
    assert all(turn.start_time.ToDatetime() > turn.create_time.ToDatetime() for turn in ended[1:])
    told = model.requests[-1].messages
    assert [m.text for m in told if m.role == "user"] == ["first of all", *texts]


async def test_what_a_waiting_turn_was_asked_is_found_when_it_begins(
    busy: Busy, model: Scripted
) -> None:
    async def found(query: str) -> list[str]:
        request = sessions.ListSessionsRequest(query=query)
        page = await busy.user.call("SessionService.ListSessions", request)
        return [one.session_id for one in page.sessions]

    waiting = await busy.queue("lighthouses, later")
    assert await found("first of all") == [busy.session_id]
    assert await found("LIGHTHOUSES") == []
    model.gate.set()
    await busy.user.ended(waiting.turn_id)
    assert await found("LIGHTHOUSES") == [busy.session_id]


async def test_turn_that_finds_its_session_free_runs_at_once(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id, if_busy=QUEUE)
    assert (turn.state, turn.HasField("start_time")) == (COMPLETED, False)


async def test_watchers_see_a_turn_wait_and_begin(busy: Busy, model: Scripted) -> None:
    waiting = await busy.queue("later")
    watching = asyncio.create_task(kinds(busy.user.watch(waiting.turn_id)))
    request = turn_service_pb2.StreamChatRequest(
        session_id=busy.session_id, text="at last", if_busy=QUEUE
    )
    chatting = asyncio.create_task(kinds(busy.user.stream("StreamChat", request)))

    async def two_wait() -> bool:
        page = await busy.user.call("TurnService.ListTurns", turn_service_pb2.ListTurnsRequest())
        return [turn.state for turn in page.turns].count(WAITING) == 2

    await eventually(two_wait, "two turns wait")
    assert not watching.done()
    model.gate.set()
    for seen in await asyncio.gather(watching, chatting):
        assert seen[:2] == ["turn waiting", "turn running"] or seen[1] == "turn completed", seen
        assert seen[-2:] == ["step", "completed"]


async def test_more_turns_than_may_wait_are_refused_with_the_limit(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> None:
    model.gate.clear()
    async with two_replicas(database, peers, tmp_path, model, agent_waiting_turns=3) as users:
        session = await users[0].session()
        live = await users[0].start(session.session_id)
        asked = [users[n % 2].start(session.session_id, f"{n}", if_busy=QUEUE) for n in range(8)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        turns = [one for one in answers if isinstance(one, turn_pb2.Turn)]
        refused = [one for one in answers if isinstance(one, DomainError)]
        assert len(turns) == 3
        assert {(one.reason, one.metadata["limit"]) for one in refused} == {
            ("SESSION_QUEUE_FULL", "3")
        }
        model.gate.set()
        for turn in (live, *turns):
            assert (await users[1].ended(turn.turn_id)).state == COMPLETED


async def test_turn_that_waits_is_cancelled_at_once_and_never_runs(
    busy: Busy, model: Scripted
) -> None:
    first, second, third = [await busy.queue(text) for text in ("one", "two", "three")]
    watching = asyncio.create_task(kinds(busy.user.watch(second.turn_id)))
    cancelled = await busy.user.cancel(second.turn_id)
    assert cancelled.state == CANCELLED
    assert (await asyncio.wait_for(watching, 10))[-1] == "cancelled"
    model.gate.set()
    assert (await busy.user.ended(third.turn_id)).state == COMPLETED
    assert (await busy.user.turn(first.turn_id)).state == COMPLETED
    assert await busy.said() == ["first of all", "one", "three"]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
async def test_turn_that_comes_to_nothing_holds_up_none_behind_it(
    busy: Busy, model: Scripted, how: str
) -> None:
    waiting = [await busy.queue(text) for text in ("one", "two")]
    if how == "cancelled":
        await busy.user.cancel(busy.live.turn_id)
        model.gate.set()
    else:
        model.failures = [ModelRefused("no")]
        model.gate.set()
    states = [(await busy.user.ended(turn.turn_id)).state for turn in (busy.live, *waiting)]
    expected = {"cancelled": [CANCELLED, COMPLETED, COMPLETED]}
    # The turn behind meets the failure: the first one has passed the place where it is raised.
    assert states == expected.get(how, [COMPLETED, FAILED, COMPLETED])
    assert await busy.said() == ["first of all", "one", "two"]


async def test_deletion_by_force_takes_those_that_wait_with_it(
    busy: Busy, service: Service, model: Scripted
) -> None:
    for n in range(4):
        await busy.queue(f"{n}")
    request = sessions.DeleteSessionRequest(session_id=busy.session_id)
    refused = await refusal(busy.user.call("SessionService.DeleteSession", request))
    assert (refused.reason, refused.metadata["resource"]) == ("SESSION_BUSY", busy.live.turn_id)
    request.force = True
    await busy.user.call("SessionService.DeleteSession", request)
    model.gate.set()
    assert await rows(service, "select id from agent.messages") == []
    assert await rows(service, "select id from agent.work where kind = 'turn'") == []


async def test_writers_at_two_replicas_never_interleave(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> None:
    model.reply = lambda request: (
        ("Done.", [])
        if request.messages[-1].tool_results
        else ("Let me see.", [("memory_recall", {"query": "boats"})])
    )
    async with two_replicas(database, peers, tmp_path, model, agent_waiting_turns=100) as users:
        session = await users[0].session()

        async def speak(n: int) -> turn_pb2.Turn:
            mode = REFUSE if n % 3 == 0 else QUEUE
            user = users[n % 2]
            turn = await user.start(session.session_id, f"{n}", if_busy=mode, request_id=f"r{n}")
            if n % 7 == 1:
                await users[(n + 1) % 2].cancel(turn.turn_id)
            return turn

        answers = await asyncio.gather(*map(speak, range(60)), return_exceptions=True)
        turns = [one for one in answers if isinstance(one, turn_pb2.Turn)]
        refused = [one for one in answers if not isinstance(one, turn_pb2.Turn)]
        assert {one.reason for one in refused if isinstance(one, DomainError)} == {"SESSION_BUSY"}
        assert len(turns) >= 40
        ended = [await users[0].ended(turn.turn_id) for turn in turns]
        assert {turn.state for turn in ended} == {COMPLETED, CANCELLED}
        await expect_one_after_the_other(users[1], session.session_id, ended)


async def expect_one_after_the_other(
    user: Caller, session_id: str, turns: Sequence[turn_pb2.Turn]
) -> None:
    """See that no message of a turn stands between those of another, in the order of storing."""
    stored = await user.messages(session_id)
    assert [m.sequence for m in stored] == list(range(1, len(stored) + 1))
    runs = [turn_id for turn_id, _ in groupby(m.turn_id for m in stored)]
    assert len(runs) == len(set(runs))
    whole = {turn.turn_id for turn in turns if turn.state == COMPLETED}
    assert whole <= set(runs)
    for turn_id in whole:
        roles = [m.role for m in stored if m.turn_id == turn_id]
        assert len(roles) == 4, roles
    stored_as = await rows(
        user.service,
        "select aggregate_id from agent.log where version = 1 and aggregate_id like 'trn%'"
        " order by position",
    )
    places = {turn_id: place for place, turn_id in enumerate(stored_as)}
    assert [places[turn_id] for turn_id in runs] == sorted(places[turn_id] for turn_id in runs)


async def test_turn_whose_deadline_comes_while_it_waits_fails_and_holds_up_nobody(
    busy: Busy, model: Scripted
) -> None:
    hasty = await busy.queue("quick", limits=timeout(1))
    patient = await busy.queue("slow", limits=timeout(600))
    assert hasty.deadline.ToDatetime() < patient.deadline.ToDatetime()
    ended = await busy.user.ended(hasty.turn_id)
    assert (ended.state, ended.error_reason) == (FAILED, "DEADLINE_EXCEEDED")
    assert (await busy.user.turn(busy.live.turn_id)).state == turn_pb2.TURN_STATE_RUNNING
    model.gate.set()
    assert (await busy.user.ended(patient.turn_id)).state == COMPLETED
    assert await busy.said() == ["first of all", "slow"]


async def test_turns_that_were_taken_are_done_when_their_agent_is_archived(
    busy: Busy, model: Scripted
) -> None:
    waiting = await busy.queue("already asked")
    archive = agent_service_pb2.ArchiveAgentRequest(agent_id=busy.live.agent_id)
    await busy.user.call("AgentService.ArchiveAgent", archive)
    assert (await refusal(busy.queue("too late"))).reason == "WRONG_STATE"
    model.gate.set()
    for turn in (busy.live, waiting):
        assert (await busy.user.ended(turn.turn_id)).state == COMPLETED


async def test_turns_that_wait_for_a_service_are_never_put_off_beyond_their_deadline(
    service: Service,
) -> None:
    service.peers.skills.faults = [ResourceExhausted("busy") for _ in range(1000)]
    user = service.caller()
    made = [await user.session() for _ in range(12)]
    turns = [await user.start(one.session_id, limits=timeout(9)) for one in made]
    put_off = asyncio.create_task(_put_off(service))
    ended = await asyncio.gather(*(user.ended(turn.turn_id) for turn in turns))
    assert {turn.error_reason for turn in ended} == {"DEADLINE_EXCEEDED"}
    assert await put_off
    beyond = [over for over in put_off.result() if over > timedelta()]
    assert not beyond  # pauses between tries are longer than what is left, by then


async def _put_off(service: Service) -> set[timedelta]:
    """Return by how much turns were put off beyond their deadlines, until none is left."""
    found: set[timedelta] = set()
    while over := await rows(
        service,
        "select w.due_at - t.deadline from agent.work w join agent.turns t on t.id = w.id"
        " where w.kind = 'turn'",
    ):
        found.update(over)
        await asyncio.sleep(0.1)
    return found


async def test_deadline_cuts_the_model_in_the_middle(service: Service, model: Scripted) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, limits=timeout(1))
    ended = await user.ended(turn.turn_id)
    assert (ended.state, ended.error_reason) == (FAILED, "DEADLINE_EXCEEDED")
    assert ended.usage.failed_call_count == 1
    assert model.closed_early == 1


async def test_deadline_cancels_the_tools_that_run(service: Service, model: Scripted) -> None:
    async def endless(arguments: dict[str, object]) -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    service.peers.skills.tools = {"endless": endless}
    model.reply = lambda request: ("", [("endless", {})])
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, limits=timeout(1))
    assert (await user.ended(turn.turn_id)).error_reason == "DEADLINE_EXCEEDED"

    async def stopped() -> bool:
        return service.peers.skills.cancelled == [f"{turn.turn_id}:1:0"]

    await eventually(stopped, "the tool is cancelled")


async def test_session_that_a_release_without_queues_left_standing_goes_on(
    busy: Busy, service: Service, model: Scripted
) -> None:
    waiting = await busy.queue("forgotten?")
    await rows(
        service,
        "delete from agent.work w using agent.turns t where t.id = w.id and t.state = 'running'",
        "update agent.turns set state = 'failed', end_time = now() where state = 'running'",
        "update agent.work set due_at = now() where kind = 'turn'",
    )
    model.gate.set()
    assert (await busy.user.ended(waiting.turn_id)).state == COMPLETED
