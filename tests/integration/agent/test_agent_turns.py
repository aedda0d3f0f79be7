"""Turns through the port: answers, tools, results, bounds, failures of peers and models."""

from __future__ import annotations

import asyncio
import json

import pytest

from gathering.agent.v1 import session_pb2, turn_pb2, turn_service_pb2
from gathering_agent.convert import struct, unstruct
from gathering_agent.errors import ModelContextExceeded, ModelFailed, ModelRefused
from gathering_agent.models import JsonObject, Role
from gathering_agent.providers.models_dialogue import ModelRequest, ToolUse
from gathering_mesh.errors import DomainError
from tests.integration.agent.harness import Reply, Scripted, Service, texts
from tests.integration.agent.peers import ToolFault

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}


def in_order(*replies: Reply) -> object:
    """Reply by the number of the step."""

    def reply(request: ModelRequest) -> Reply:
        return replies[min(request.step, len(replies)) - 1]

    return reply


async def echo(arguments: dict[str, object]) -> dict[str, object]:
    return {"said": arguments}


async def test_chat_answers_and_stores_the_conversation(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id, "good morning")
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED
    assert turn.stop_reason == turn_pb2.STOP_REASON_END
    assert turn.text.strip() == "You said: good morning"
    assert (turn.usage.model_call_count, turn.usage.input_token_count) == (1, 7)
    stored = await user.messages(session.session_id)
    assert [m.role for m in stored] == [
        session_pb2.MESSAGE_ROLE_USER,
        session_pb2.MESSAGE_ROLE_ASSISTANT,
    ]
    assert [m.sequence for m in stored] == [1, 2]


async def test_next_turn_knows_the_conversation(service: Service, model: Scripted) -> None:
    user = service.caller()
    session = await user.session()
    await user.chat(session.session_id, "one")
    await user.chat(session.session_id, "two")
    told = model.requests[-1].messages
    assert [m.text.strip() for m in told] == ["one", "You said: one", "two"]


async def test_tools_run_in_parallel_named_by_their_place(
    service: Service, model: Scripted
) -> None:
    both = asyncio.Barrier(2)

    async def together(arguments: dict[str, object]) -> dict[str, object]:
        await asyncio.wait_for(both.wait(), 10)  # ends only if the other runs as well
        return {"said": arguments}

    service.peers.skills.tools = {"together": together}
    calls = [("together", {"n": 1}), ("together", {"n": 2})]
    model.reply = in_order(("Looking.", calls), ("Found.", []))  # type: ignore[assignment]
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id)
    assert turn.text.strip() == "Found."
    assert (turn.usage.model_call_count, turn.usage.tool_call_count) == (2, 2)
    stored = await user.messages(session.session_id)
    names = [f"{turn.turn_id}:1:{place}" for place in (0, 1)]
    assert [call.call_id for call in stored[1].tool_calls] == names
    assert [result.call_id for result in stored[2].tool_results] == names
    assert [json.loads(r.text) for r in stored[2].tool_results] == [
        {"said": {"n": 1}},
        {"said": {"n": 2}},
    ]
    assert list(service.peers.skills.runs.values()) == [1, 1]
    told = [m for m in model.requests[-1].messages if m.role is Role.TOOL]
    assert len(told) == 1


async def test_failures_of_tools_are_results(service: Service, model: Scripted) -> None:
    async def broken(arguments: dict[str, object]) -> dict[str, object]:
        raise ToolFault("out of paper")

    service.peers.skills.tools = {"broken": broken, "echo": echo}
    calls = [("broken", {}), ("no_such_tool", {}), ("echo", {"bad": 1}), ("memory_recall", {})]
    model.reply = in_order(("", calls), ("Well.", []))  # type: ignore[assignment]
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id)
    assert turn.state == turn_pb2.TURN_STATE_COMPLETED
    results = (await user.messages(session.session_id))[2].tool_results
    assert all(result.failed for result in results)
    assert "out of paper" in results[0].text
    assert "no_such_tool" in results[1].text
    assert "bad: no" in results[2].text
    assert "query" in results[3].text


async def test_tools_that_need_a_workspace_are_offered_with_one(
    service: Service, model: Scripted
) -> None:
    service.peers.skills.tools = {"anywhere": echo, "inside": echo}
    service.peers.skills.needs_workspace = {"inside"}
    user = service.caller()
    bare = await user.session()
    await user.chat(bare.session_id)
    assert {t.name for t in model.requests[-1].tools} == {
        "anywhere",
        "memory_remember",
        "memory_recall",
    }
    housed = await user.session(bare.agent_id, workspace_id="wsp_" + "0" * 32)
    await user.chat(housed.session_id)
    assert "inside" in {t.name for t in model.requests[-1].tools}


async def test_result_is_handed_in_and_ends_the_turn(service: Service, model: Scripted) -> None:
    model.reply = in_order(  # type: ignore[assignment]
        ("", [("submit_result", {"wrong": 1})]), ("Done.", [("submit_result", {"summary": "x"})])
    )
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, result_schema=struct(SCHEMA))
    turn = await user.ended(turn.turn_id)
    assert unstruct(turn.result) == {"summary": "x"}
    assert turn.text.strip() == "Done."
    assert (turn.usage.model_call_count, turn.usage.tool_call_count) == (2, 0)
    refused = (await user.messages(session.session_id))[2].tool_results[0]
    assert refused.failed
    assert "summary" in refused.text


async def test_model_that_forgets_the_result_is_reminded_once(
    service: Service, model: Scripted
) -> None:
    model.reply = in_order(  # type: ignore[assignment]
        ("Nice.", []), ("", [("submit_result", {"summary": "x"})])
    )
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, result_schema=struct(SCHEMA))
    assert unstruct((await user.ended(turn.turn_id)).result) == {"summary": "x"}
    assert "submit_result" in model.requests[1].messages[-1].text

    model.reply = in_order(("Never.", []))  # type: ignore[assignment]
    turn = await user.start(session.session_id, result_schema=struct(SCHEMA))
    ended = await user.ended(turn.turn_id)
    assert ended.state == turn_pb2.TURN_STATE_COMPLETED
    assert not ended.HasField("result")
    assert ended.usage.model_call_count == 2


async def test_bound_on_tool_calls_lets_the_model_hand_in(
    service: Service, model: Scripted
) -> None:
    service.peers.skills.tools = {"echo": echo}
    three = [("echo", {"n": n}) for n in range(3)]
    model.reply = in_order(  # type: ignore[assignment]
        ("", three), ("", [("submit_result", {"summary": "two of three"})])
    )
    user = service.caller()
    session = await user.session()
    limits = turn_pb2.TurnLimits(max_tool_calls=2)
    turn = await user.start(session.session_id, limits=limits, result_schema=struct(SCHEMA))
    ended = await user.ended(turn.turn_id)
    assert unstruct(ended.result) == {"summary": "two of three"}
    assert ended.usage.tool_call_count == 2
    assert [t.name for t in model.requests[1].tools] == ["submit_result"]
    results = (await user.messages(session.session_id))[2].tool_results
    assert [r.failed for r in results] == [False, False, True]
    assert sum(service.peers.skills.runs.values()) == 2


async def test_bound_on_steps_asks_for_an_answer_without_tools(
    service: Service, model: Scripted
) -> None:
    service.peers.skills.tools = {"echo": echo}
    model.reply = lambda request: (f"Step {request.step}.", [("echo", {})])
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id, limits=turn_pb2.TurnLimits(max_steps=3))
    assert turn.stop_reason == turn_pb2.STOP_REASON_STEP_LIMIT
    assert turn.text.strip() == "Step 3."
    assert (turn.usage.model_call_count, turn.usage.tool_call_count) == (3, 2)
    assert not (await user.messages(session.session_id))[-1].tool_calls


async def test_failed_attempts_of_the_model_are_repeated_and_withdrawn(
    service: Service, model: Scripted
) -> None:
    model.failures = [ModelFailed("cut"), ModelFailed("busy", retry_after=0.01)]
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, "one two three four five six")
    frames = [frame async for frame in user.watch(turn.turn_id)]
    assert frames[-1].WhichOneof("frame") == "completed"
    assert texts(frames)[1] == frames[-1].completed.text
    assert len(model.requests) == 3
    assert frames[-1].completed.usage.model_call_count == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelRefused("no"), "MODEL_REFUSED"),
        (ModelContextExceeded("210000 tokens"), "MODEL_CONTEXT_EXCEEDED"),
        (ValueError("a bug"), "INTERNAL"),
    ],
)
async def test_turn_that_cannot_succeed_fails_with_its_reason(
    service: Service, model: Scripted, error: Exception, reason: str
) -> None:
    model.failures = [error] * 20
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id)
    ended = await user.ended(turn.turn_id)
    assert ended.state == turn_pb2.TURN_STATE_FAILED
    assert ended.error_reason == reason
    assert "a bug" not in ended.error_message
    model.failures = []
    assert (await user.chat(session.session_id, "again")).state == turn_pb2.TURN_STATE_COMPLETED


async def test_chat_hands_in_a_result_as_well(service: Service, model: Scripted) -> None:
    user = service.caller()
    session = await user.session()
    model.reply = in_order(  # type: ignore[assignment]
        ("", [("submit_result", {"wrong": 1})]), ("", [("submit_result", {"summary": "x"})])
    )
    turn = await user.chat(session.session_id, result_schema=struct(SCHEMA))
    assert unstruct(turn.result) == {"summary": "x"}
    model.reply = in_order(("", [("submit_result", {"summary": "y"})]))  # type: ignore[assignment]
    request = turn_service_pb2.StreamChatRequest(
        session_id=session.session_id, text="again", result_schema=struct(SCHEMA)
    )
    frames = [frame async for frame in user.stream("StreamChat", request)]
    assert unstruct(frames[-1].completed.result) == {"summary": "y"}
    with pytest.raises(DomainError, match="result_schema"):
        await user.chat(session.session_id, result_schema=struct({"type": "array"}))


async def test_memories_are_recalled_and_remembered_once(service: Service, model: Scripted) -> None:
    user = service.caller()
    service.peers.memory.known.append((user.tenant, "Deploys happen on Fridays."))
    service.peers.memory.known.append(("ten_" + "9" * 32, "deploys of others"))
    note = {"text": "They like tea.", "scope": "circle", "scope_id": "crc_" + "1" * 32}
    model.reply = in_order(("", [("memory_remember", note)]), ("ok", []))  # type: ignore[assignment]
    session = await user.session()
    turn = await user.chat(session.session_id, "when are deploys ?")
    told = model.requests[0].messages[0].text
    assert "Deploys happen on Fridays." in told
    assert "deploys of others" not in told
    assert "Fridays" not in model.requests[0].system
    (request,) = service.peers.memory.remembered.values()
    assert request.request_id == f"{turn.turn_id}:1:0"
    assert request.scope.id == note["scope_id"]
    assert (request.agent_id, request.provenance.turn_id) == (session.agent_id, turn.turn_id)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "object", "properties": {"a": {"type": "nonsense"}}},
        {"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}},
        {"type": "object", "$ref": "https://example.invalid/schema"},
    ],
)
async def test_schema_that_cannot_be_used_is_refused(
    service: Service, schema: dict[str, object]
) -> None:
    user = service.caller()
    session = await user.session()
    with pytest.raises(DomainError) as caught:
        await user.start(session.session_id, result_schema=struct(schema))  # type: ignore[arg-type]
    assert caught.value.status == "INVALID_ARGUMENT"
    assert "result_schema" in caught.value.fields


@pytest.mark.parametrize("tools", [["echo"], ["echo", "look"]], ids=["one call", "to and fro"])
async def test_model_that_goes_in_circles_is_told_and_then_asked_to_answer(
    service: Service, model: Scripted, tools: list[str]
) -> None:
    service.peers.skills.tools = {"echo": echo, "look": echo}
    model.reply = lambda request: (
        ("Going on.", [(tools[request.step % len(tools)], {"n": 1})])
        if request.tool_use is ToolUse.AUTO
        else ("I give up.", [])
    )
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id)
    assert (turn.state, turn.text.strip()) == (turn_pb2.TURN_STATE_COMPLETED, "I give up.")
    assert turn.stop_reason == turn_pb2.STOP_REASON_LOOP
    results = [
        result
        for message in await user.messages(session.session_id)
        for result in message.tool_results
    ]
    assert [r.failed for r in results[-3:]] == [False, True, True]
    assert "did not change" in results[-1].text
    assert set(service.peers.skills.runs.values()) == {1}
    assert len(service.peers.skills.runs) == len(results) - 2 == 4 + 2 * (len(tools) - 1)


async def test_call_whose_result_changes_is_no_circle(service: Service, model: Scripted) -> None:
    looks = 0

    async def look(arguments: dict[str, object]) -> dict[str, object]:
        nonlocal looks
        looks += 1
        return {"found": looks}

    service.peers.skills.tools = {"look": look}
    model.reply = lambda request: ("", [("look", {})]) if request.step < 12 else ("Found.", [])
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id)
    assert (turn.stop_reason, looks) == (turn_pb2.STOP_REASON_END, 11)
