"""What a hostile tester tries: odd bytes, huge results, foreign names, deep JSON, long texts."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gathering.agent.v1 import session_service_pb2, turn_pb2, turn_service_pb2
from gathering_agent.convert import struct
from gathering_agent.models import JsonObject
from gathering_agent.models_dialogue import ModelRequest
from gathering_mesh.errors import DomainError, ResourceExhausted
from tests.integration.agent.harness import Caller, Reply, Scripted, Service, serving, texts
from tests.integration.agent.peers import Peers
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually


def once(*calls: tuple[str, dict[str, Any]], then: str = "ok") -> Any:
    def reply(request: ModelRequest) -> Reply:
        return ("", list(calls)) if request.step == 1 else (then, [])

    return reply


async def big(arguments: dict[str, object]) -> dict[str, object]:
    return {"text": "x" * 64_000, "nul": "a\0b"}


async def test_many_large_results_fit_into_a_message_and_pages_into_answers(
    service: Service, model: Scripted
) -> None:
    service.peers.skills.tools = {"big": big}
    model.reply = once(*[("big", {"n": n}) for n in range(40)])
    user = service.caller()
    session = await user.session()
    frames: list[turn_pb2.TurnFrame] = []
    for _ in range(4):
        turn = await user.start(session.session_id)
        frames = [frame async for frame in user.watch(turn.turn_id)]
        assert frames[-1].WhichOneof("frame") == "completed"
    (results,) = [frame.tool_results for frame in frames if frame.HasField("tool_results")]
    for result in results.tool_results:
        assert "Ask for less" in result.text[-200:]
        assert result.execution_id in result.text[-200:]
    pages, token = [], ""
    while True:
        request = session_service_pb2.ListMessagesRequest(
            session_id=session.session_id, page_size=200, page_token=token
        )
        page = await user.call("SessionService.ListMessages", request)
        pages.append(len(page.messages))
        token = page.next_page_token
        if not token:
            break
    assert sum(pages) == 16
    assert len(pages) > 1


async def test_text_that_cannot_be_stored_is_cleaned(service: Service, model: Scripted) -> None:
    deep: dict[str, Any] = {}
    for _ in range(60):
        deep = {"x": deep}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("memory_remember", {"text": "a\0b \ud800"}),
        ("to\0ol", {"x": float("inf")}),
        ("memory_remember", deep),
    ]
    model.reply = once(*calls, then="nul \0 and \ud83d alone")
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id)
    frames = [frame async for frame in user.watch(turn.turn_id)]
    assert frames[-1].WhichOneof("frame") == "completed", frames[-1]
    assert texts(frames)[2] == frames[-1].completed.text
    assert "\0" not in frames[-1].completed.text
    results = (await user.messages(session.session_id))[2].tool_results
    assert [result.failed for result in results] == [False, True, True]


async def test_tools_cannot_take_the_names_of_our_own(service: Service, model: Scripted) -> None:
    service.peers.skills.tools = {"submit_result": big, "memory_recall": big}
    calls = [("memory_recall", {"query": "x"}), ("submit_result", {})]
    model.reply = once(*calls)
    user = service.caller()
    session = await user.session()
    assert (await user.chat(session.session_id)).text.strip() == "ok"
    assert not service.peers.skills.runs
    names = [tool.name for tool in model.requests[0].tools]
    assert sorted(names) == ["memory_recall", "memory_remember"]


async def test_long_text_does_not_hold_the_others_up(
    database: TestDatabase, peers: Peers, tmp_path: object
) -> None:
    async with serving(database, peers, tmp_path) as service:  # type: ignore[arg-type]
        user = service.caller()
        agent = await user.agent()
        loud, quiet = [await user.session(agent.agent_id) for _ in range(2)]
        for text in ("find " + "-" * 99_000, "a/" * 49_000, "tool " * 19_000, "`" * 99_000):
            turn = await user.start(loud.session_id, text)
            begun = time.monotonic()
            await user.chat(quiet.session_id, "hello")
            assert time.monotonic() - begun < 5
            assert (await user.ended(turn.turn_id)).state == turn_pb2.TURN_STATE_COMPLETED


async def test_schema_that_is_huge_or_deep_is_refused(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    huge: JsonObject = {"type": "object", "properties": {f"p{n}": {} for n in range(9000)}}
    with pytest.raises(DomainError) as caught:
        await user.start(session.session_id, result_schema=struct(huge))
    assert caught.value.status == "INVALID_ARGUMENT"
    named: JsonObject = {"type": "object", "properties": {"pattern": {"type": "string"}}}
    turn = await user.start(session.session_id, result_schema=struct(named))
    assert (await user.ended(turn.turn_id)).state == turn_pb2.TURN_STATE_COMPLETED


async def test_unreachable_peers_delay_a_turn_and_do_not_lose_it(
    service: Service, model: Scripted
) -> None:
    # Exhausted, not away: the channel itself does not ask again.
    service.peers.skills.faults = [
        ResourceExhausted("busy", reason="OVERLOADED", retry_after=0.1) for _ in range(2)
    ]
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id)
    assert (await user.ended(turn.turn_id)).state == turn_pb2.TURN_STATE_COMPLETED
    assert not service.peers.skills.faults


async def test_cancelled_again_and_again_while_it_runs_leaves_nothing_behind(
    service: Service, model: Scripted
) -> None:
    async def slow(arguments: dict[str, object]) -> dict[str, object]:
        await asyncio.sleep(30)
        return {}

    service.peers.skills.tools = {"slow": slow}
    model.reply = lambda request: ("thinking", [("slow", {"n": n}) for n in range(3)])
    user = service.caller()
    session = await user.session()
    for _ in range(6):
        turn = await user.start(session.session_id)
        await asyncio.gather(*(user.cancel(turn.turn_id) for _ in range(3)))
    skills = service.peers.skills

    async def all_ended() -> bool:
        return all(task.done() for task in skills.tasks.values())

    await eventually(all_ended, "no tool of a cancelled turn runs on", seconds=20)
    model.reply = lambda request: ("fine", [])
    assert (await user.chat(session.session_id)).text.strip() == "fine"


async def test_viewer_may_watch_and_not_speak(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id)
    viewer = Caller(
        service, user.tenant, user.user, role="viewer", scopes="sessions.read agents.read"
    )
    assert (await viewer.turn(turn.turn_id)).text == turn.text
    with pytest.raises(DomainError) as caught:
        await viewer.start(session.session_id)
    assert caught.value.reason == "SCOPE_MISSING"


async def test_recall_that_fails_is_told_to_the_model(service: Service, model: Scripted) -> None:
    service.peers.memory.faults = [ResourceExhausted("busy", retry_after=0.1)]
    user = service.caller()
    session = await user.session()
    assert (await user.chat(session.session_id)).state == turn_pb2.TURN_STATE_COMPLETED
    assert "cannot be read" in model.requests[0].system


async def test_turn_is_found_by_task_and_agent(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    task_id = "tsk_" + "1" * 32
    turn = await user.through("orchestrator").start(session.session_id, task_id=task_id)
    await user.ended(turn.turn_id)
    await user.chat(session.session_id)
    by_task = turn_service_pb2.ListTurnsRequest(task_id=task_id)
    found = await user.call("TurnService.ListTurns", by_task)
    assert [one.turn_id for one in found.turns] == [turn.turn_id]
    by_agent = turn_service_pb2.ListTurnsRequest(agent_id=session.agent_id, page_size=1)
    page = await user.call("TurnService.ListTurns", by_agent)
    assert len(page.turns) == 1
    assert page.next_page_token
