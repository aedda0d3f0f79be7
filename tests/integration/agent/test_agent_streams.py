"""Streams of turns: whole texts, resumption, cancellation, busy sessions, twins."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gathering.agent.v1 import turn_pb2, turn_service_pb2
from gathering_agent.providers.models_dialogue import Answer, ModelEvent, ModelRequest, TextDelta
from gathering_mesh.errors import DomainError
from tests.integration.agent.harness import Scripted, Service, serving, texts
from tests.integration.agent.peers import Peers, ToolFault
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

LONG = " ".join(f"wörd{number}" for number in range(200))


async def test_streamed_chat_gives_text_before_the_turn_ends(
    service: Service, model: Scripted
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    request = turn_service_pb2.StreamChatRequest(session_id=session.session_id, text=LONG)
    frames = []
    async for frame in user.stream("StreamChat", request):
        frames.append(frame)
        if frame.WhichOneof("frame") == "text_delta":
            model.gate.set()
    kinds = [str(frame.WhichOneof("frame")) for frame in frames]
    assert kinds[0] == "turn"
    assert kinds[-2:] == ["step", "completed"]
    assert kinds.count("text_delta") > 1
    assert texts(frames)[1] == frames[-1].completed.text
    assert LONG in texts(frames)[1]


async def test_stream_resumed_anywhere_gives_the_same_text(
    service: Service, model: Scripted
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, LONG)
    seen = []
    async for frame in user.watch(turn.turn_id):
        seen.append(frame)
        if frame.WhichOneof("frame") == "text_delta":
            break  # in the middle of the text
    rest = asyncio.create_task(collect(user.watch(turn.turn_id, seen[-1].cursor)))
    model.gate.set()
    frames = [*seen, *await rest]
    whole = (await user.turn(turn.turn_id)).text
    assert texts(frames)[1] == whole
    undisturbed = [frame async for frame in user.watch(turn.turn_id)]
    for place, frame in enumerate(undisturbed):
        again = [f async for f in user.watch(turn.turn_id, frame.cursor)]
        assert texts([*undisturbed[: place + 1], *again])[1] == whole
        assert again[-1].WhichOneof("frame") == "completed"


async def collect(frames: object) -> list[turn_pb2.TurnFrame]:
    return [frame async for frame in frames]  # type: ignore[attr-defined]


async def test_cursor_of_another_turn_or_of_nothing_is_refused(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    one = await user.chat(session.session_id)
    two = await user.chat(session.session_id)
    frames = await collect(user.watch(one.turn_id))
    inside = frames[1].cursor.rpartition(".")[0] + ".1"
    umlaut = await user.start(session.session_id, "ööö")
    await user.ended(umlaut.turn_id)
    for turn_id, after in (
        (two.turn_id, frames[0].cursor),
        (one.turn_id, "nonsense"),
        (one.turn_id, "1.2.3.4.5"),
        (one.turn_id, inside.replace(inside[:8], "x" * 8)),
    ):
        with pytest.raises(DomainError) as caught:
            await collect(user.watch(turn_id, after))
        assert caught.value.reason == "INVALID_CURSOR"


async def test_cancel_reaches_the_model_and_frees_the_session(
    service: Service, model: Scripted
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, LONG)
    watching = asyncio.create_task(collect(user.watch(turn.turn_id)))
    await asyncio.wait_for(model.begun.wait(), 10)
    cancelled = await user.cancel(turn.turn_id)
    assert cancelled.state == turn_pb2.TURN_STATE_CANCELLED
    frames = await asyncio.wait_for(watching, 10)
    assert frames[-1].WhichOneof("frame") == "cancelled"
    assert 1 not in texts(frames)  # what was streamed of the step is withdrawn

    async def closed() -> bool:
        return model.closed_early == 1

    await eventually(closed, "the model's stream is closed")
    model.gate.set()
    again = await user.chat(session.session_id, "go on")
    assert again.state == turn_pb2.TURN_STATE_COMPLETED
    assert (await user.cancel(again.turn_id)).state == turn_pb2.TURN_STATE_COMPLETED
    assert (await user.cancel(turn.turn_id)).state == turn_pb2.TURN_STATE_CANCELLED


async def test_cancel_reaches_the_tools(service: Service, model: Scripted) -> None:
    running = asyncio.Event()

    async def endless(arguments: dict[str, object]) -> dict[str, object]:
        running.set()
        await asyncio.Event().wait()
        return {}

    service.peers.skills.tools = {"endless": endless}
    model.reply = lambda request: ("", [("endless", {})])
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id)
    await asyncio.wait_for(running.wait(), 10)
    await user.cancel(turn.turn_id)

    async def stopped() -> bool:
        return service.peers.skills.cancelled == [f"{turn.turn_id}:1:0"]

    await eventually(stopped, "the tool is cancelled")
    # The next turn tells the model that the call was never answered.
    model.reply = lambda request: ("ok", [])
    await user.chat(session.session_id, "and now?")
    told = model.requests[-1].messages
    assert not any(said.tool_calls for said in told)
    assert "ended before" in told[1].text


async def test_session_takes_one_turn_at_a_time(service: Service, model: Scripted) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    started = await asyncio.gather(
        *(user.start(session.session_id, f"{n}", request_id=f"r{n}") for n in range(8)),
        return_exceptions=True,
    )
    turns = [one for one in started if isinstance(one, turn_pb2.Turn)]
    refused = [one for one in started if isinstance(one, DomainError)]
    assert len(turns) == 1
    assert {(one.status, one.reason) for one in refused} == {
        ("FAILED_PRECONDITION", "SESSION_BUSY")
    }
    model.gate.set()
    await user.ended(turns[0].turn_id)
    assert (await user.chat(session.session_id)).state == turn_pb2.TURN_STATE_COMPLETED


async def test_twins_are_one_turn_and_another_body_is_refused(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    twins = await asyncio.gather(
        *(user.start(session.session_id, "hi", request_id="same") for _ in range(6))
    )
    assert len({turn.turn_id for turn in twins}) == 1
    await user.ended(twins[0].turn_id)
    assert (await user.start(session.session_id, "hi", request_id="same")).text
    with pytest.raises(DomainError) as caught:
        await user.start(session.session_id, "ho", request_id="same")
    assert caught.value.reason == "REQUEST_ID_REUSED"
    assert len(await user.messages(session.session_id)) == 2


async def test_streamed_chat_repeated_streams_the_same_turn(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    request = turn_service_pb2.StreamChatRequest(
        session_id=session.session_id, text=LONG, request_id="same"
    )
    first = await collect(user.stream("StreamChat", request))
    again = await collect(user.stream("StreamChat", request))
    assert first[-1].completed.turn_id == again[-1].completed.turn_id
    assert texts(first) == texts(again)


async def test_stream_whose_token_ends_says_where_to_go_on(
    service: Service, model: Scripted
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, LONG)
    await asyncio.wait_for(model.begun.wait(), 10)
    short = replace(user, lifetime=1)
    frames = await asyncio.wait_for(collect(short.watch(turn.turn_id)), 20)
    assert frames[-1].reconnect.reason == "token_expired"
    model.gate.set()
    rest = await collect(user.watch(turn.turn_id, frames[-1].cursor))
    assert texts([*frames, *rest])[1] == rest[-1].completed.text


async def test_chat_with_a_short_deadline_returns_the_turn_as_it_is(
    service: Service, model: Scripted
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    request = turn_service_pb2.ChatRequest(session_id=session.session_id, text="slow")
    turn = await user.call("TurnService.Chat", request, timeout=1.5)
    assert turn.state in (turn_pb2.TURN_STATE_QUEUED, turn_pb2.TURN_STATE_RUNNING)
    model.gate.set()
    assert (await user.ended(turn.turn_id)).state == turn_pb2.TURN_STATE_COMPLETED


class Fast(Scripted):
    """Says one word and, once it is let go on, thousands of them, each by itself."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Speak."""
        for n in range(5000):
            yield TextDelta(f"wörd{n} ")
            await self.gate.wait()
            await asyncio.sleep(0)
        yield Answer(input_tokens=7, output_tokens=5000)


async def test_tiny_pieces_of_a_fast_model_are_joined_but_for_the_first(
    database: TestDatabase, peers: Peers, tmp_path: Path
) -> None:
    model = Fast()
    model.gate.clear()
    async with serving(database, peers, tmp_path, model) as service:
        user = service.caller()
        session = await user.session()
        request = turn_service_pb2.StreamChatRequest(session_id=session.session_id, text="go")
        frames, pieces, began = [], 0, time.monotonic()
        async for frame in user.stream("StreamChat", request):
            frames.append(frame)
            if frame.WhichOneof("frame") == "text_delta":
                pieces += 1
                model.gate.set()  # the first piece came although there was no more
        took = time.monotonic() - began
    assert frames[1].text_delta.text == "wörd0 "
    assert texts(frames)[1] == frames[-1].completed.text
    assert 2 < pieces <= 3 + took / 0.02


async def test_watchers_are_told_what_the_tools_are_doing(
    service: Service, model: Scripted
) -> None:
    gate = asyncio.Event()

    async def slow(arguments: dict[str, object]) -> dict[str, object]:
        await gate.wait()
        return {}

    async def quick(arguments: dict[str, object]) -> dict[str, object]:
        raise ToolFault("no")

    service.peers.skills.tools = {"slow": slow, "quick": quick}
    calls: list[tuple[str, dict[str, object]]] = [("slow", {}), ("quick", {}), ("nothing", {})]
    model.reply = lambda request: ("Look:", calls) if request.step == 1 else ("Done.", [])
    user = service.caller()
    turn = await user.start((await user.session()).session_id)
    frames = []
    async for frame in user.watch(turn.turn_id):
        frames.append(frame)
        if frame.tool_finished.tool == "quick":
            gate.set()
    kinds = [str(frame.WhichOneof("frame")) for frame in frames]
    told = frames[kinds.index("step") + 1 : kinds.index("tool_results")]
    started = {f.tool_started.call_id for f in told if f.HasField("tool_started")}
    assert started == {f"{turn.turn_id}:1:{place}" for place in range(3)}
    ended = {
        f.tool_finished.tool: (f.tool_finished.failed, f.tool_finished.execution_id != "")
        for f in told
        if f.HasField("tool_finished")
    }
    assert ended["quick"] == (True, True)
    assert ended["nothing"] == (True, False)
    assert ended.get("slow", (False, True)) == (False, True)  # its results may be stored first
    assert {f.tool_finished.step for f in told if f.HasField("tool_finished")} == {1}
    again = await collect(user.watch(turn.turn_id, told[0].cursor))
    assert "tool_results" in {frame.WhichOneof("frame") for frame in again}
