"""Both network providers against local servers that speak the providers' wire formats."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from gathering_agent.errors import ModelFailed, ModelNotConfigured, ModelRefused
from gathering_agent.models import Role, StopReason, ToolResult
from gathering_agent.models_dialogue import Said, TextDelta, ToolUse
from gathering_mesh.errors import DomainError
from tests.support.providers.anthropic_wire import anthropic_events
from tests.support.providers.kinds import KINDS, TURN, Kind, asked, provider, run
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply, serving


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


async def test_text_arrives_in_pieces_with_usage(kind: Kind) -> None:
    async with provider(kind, lambda _: Reply(kind.events(["Hel", "lo ", "there"]))) as (model, _):
        texts, answer = await run(model, asked())
    assert texts == ["Hel", "lo ", "there"]
    assert answer.stop_reason is StopReason.END
    assert answer.tool_calls == ()
    assert (answer.input_tokens, answer.output_tokens) == (kind.input_tokens, 5)


async def test_first_piece_arrives_before_the_last_is_written(kind: Kind) -> None:
    reply = Reply(kind.events(["one"], whole=False), hang=True)
    async with provider(kind, lambda _: reply) as (model, _):
        stream = model.stream(asked())
        assert await asyncio.wait_for(anext(stream), 5) == TextDelta("one")
        await stream.aclose()  # type: ignore[attr-defined]  # a generator, as all providers


async def test_tools_over_two_rounds_are_named_and_answered(kind: Kind) -> None:
    calls = [("search_text", {"query": "TODO"}), ("search_text", {"query": "FIXME"})]

    def script(body: dict[str, Any]) -> Reply:
        first = len(body["messages"]) <= 2
        return Reply(kind.events(["Looking."], calls) if first else kind.events(["Found."]))

    async with provider(kind, script) as (model, seen):
        texts, answer = await run(model, asked())
        assert [c.call_id for c in answer.tool_calls] == [f"{TURN}:1:0", f"{TURN}:1:1"]
        assert [c.arguments for c in answer.tool_calls] == [{"query": "TODO"}, {"query": "FIXME"}]
        results = tuple(
            ToolResult(c.call_id, c.tool, f"result {i}", failed=i == 1)
            for i, c in enumerate(answer.tool_calls)
        )
        dialogue = (
            Said(Role.USER, "look"),
            Said(Role.ASSISTANT, texts[0], answer.tool_calls, native=answer.native),
            Said(Role.TOOL, tool_results=results),
            Said(Role.USER, "Answer now."),
        )
        texts, answer = await run(model, asked(*dialogue, step=2))
    assert texts == ["Found."]
    assert not answer.tool_calls
    sent = json.dumps(seen.requests[1])
    assert "result 0" in sent
    assert "result 1" in sent
    _refers_to_its_calls(seen.requests[1])


def _refers_to_its_calls(body: dict[str, Any]) -> None:
    """Check that each result names a call of the message before it, in that provider's form."""
    messages = [m for m in body["messages"] if m["role"] != "system"]
    if any(m["role"] == "tool" for m in messages):
        wanted = [c["id"] for c in messages[1]["tool_calls"]]
        assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == wanted
        assert all(len(i) <= 40 for i in wanted)
    else:
        wanted = [b["id"] for b in messages[1]["content"] if b["type"] == "tool_use"]
        results = [b for b in messages[2]["content"] if b["type"] == "tool_result"]
        assert [b["tool_use_id"] for b in results] == wanted
        assert [b["is_error"] for b in results] == [False, True]
        assert messages[2]["content"][-1] == {"type": "text", "text": "Answer now."}
        assert [m["role"] for m in messages] == ["user", "assistant", "user"]


async def test_history_of_another_model_is_retold(kind: Kind) -> None:
    async with provider(kind, lambda _: Reply(kind.events(["ok"]))) as (model, seen):
        first = (await run(model, asked()))[1]
        native = replace(first.native, model="other") if first.native else None
        call = replace(first, tool_calls=())
        assert not call.tool_calls
        dialogue = (
            Said(Role.USER, "one"),
            Said(Role.ASSISTANT, "two", native=native),
            Said(Role.USER, "three"),
        )
        await run(model, asked(*dialogue))
    assert "two" in json.dumps(seen.requests[1])


async def test_model_may_be_kept_from_tools(kind: Kind) -> None:
    async with provider(kind, lambda _: Reply(kind.events(["ok"]))) as (model, seen):
        await run(model, asked(tool_use=ToolUse.NONE))
        await run(model, asked(tools=()))
    assert seen.requests[0]["tool_choice"] in ("none", {"type": "none"})
    assert "tools" not in seen.requests[1]


async def test_broken_arguments_are_told_with_the_call(kind: Kind) -> None:
    reply = Reply(kind.events([], [("search_text", '{"query": "TO'), ("search_text", "[1]")]))
    async with provider(kind, lambda _: reply) as (model, _):
        _, answer = await run(model, asked())
    assert "not JSON" in answer.tool_calls[0].problem
    assert "object" in answer.tool_calls[1].problem


async def test_answer_that_is_too_long_says_so(kind: Kind) -> None:
    word = "stop" if "anthropic" in kind.events.__name__ else "finish"
    reply = Reply(kind.events(["long"], **{word: kind.cut_off}))
    async with provider(kind, lambda _: reply) as (model, _):
        _, answer = await run(model, asked())
    assert answer.stop_reason is StopReason.MAX_TOKENS


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, ModelNotConfigured, "credentials"),
        (400, ModelRefused, "refuses the request"),
        (429, ModelFailed, "429"),
        (500, ModelFailed, "500"),
        (529, ModelFailed, "529"),
    ],
)
async def test_error_of_the_provider_has_its_reason(
    kind: Kind, status: int, error: type[DomainError], words: str
) -> None:
    reply = Reply(status=status, error="because", headers={"retry-after": "7"})
    async with provider(kind, lambda _: reply) as (model, seen):
        with pytest.raises(error, match=words) as caught:
            await run(model, asked())
    assert len(seen.requests) == 1  # the SDK does not try again by itself
    if error is ModelFailed:
        assert caught.value.retry_after == 7
    assert "because" in caught.value.message


@pytest.mark.parametrize("broken_off", [False, True])
async def test_cut_stream_is_a_failure_and_no_answer(kind: Kind, broken_off: bool) -> None:
    reply = Reply(kind.events(["half"], whole=False), cut=broken_off)
    async with provider(kind, lambda _: reply) as (model, _):
        with pytest.raises(ModelFailed):
            await run(model, asked())


async def test_server_that_is_not_there_is_a_failure(kind: Kind) -> None:
    async with AsyncExitStack() as stack:
        async with serving(kind.path, lambda _: Reply()) as (url, _):
            pass
        made = kind.make(url)
        stack.push_async_callback(made.aclose)
        with pytest.raises(ModelFailed):
            await run(made, asked())


async def test_cancelling_hangs_up(kind: Kind) -> None:
    reply = Reply(kind.events(["one"], whole=False), hang=True)
    async with provider(kind, lambda _: reply) as (model, seen):
        task = asyncio.create_task(run(model, asked()))
        await asyncio.wait_for(seen.streaming.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(seen.disconnected.wait(), 5)


async def test_error_inside_the_stream_is_a_failure() -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    events = [*anthropic_events(["a"], whole=False),
              f"event: error\ndata: {json.dumps(overloaded)}\n\n"]  # fmt: skip
    async with provider(KINDS["anthropic"], lambda _: Reply(events)) as (model, _):
        with pytest.raises(ModelFailed):
            await run(model, asked())
    events = [*openai_events(["a"], whole=False), 'data: {"error": {"message": "busy"}}\n\n']
    async with provider(KINDS["openai"], lambda _: Reply(events)) as (model, _):
        with pytest.raises(ModelFailed, match="busy"):
            await run(model, asked())


async def test_thoughts_are_given_back_with_their_signature() -> None:
    events = anthropic_events(["Hm."], [("search_text", {"query": "x"})], thinking="let me see")
    async with provider(KINDS["anthropic"], lambda _: Reply(events)) as (model, seen):
        texts, answer = await run(model, asked())
        said = Said(Role.ASSISTANT, texts[0], answer.tool_calls, native=answer.native)
        result = ToolResult(answer.tool_calls[0].call_id, "search_text", "y")
        await run(model, asked(Said(Role.USER, "q"), said, Said(Role.TOOL, tool_results=(result,))))
    blocks = seen.requests[1]["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
    assert (blocks[0]["thinking"], blocks[0]["signature"]) == ("let me see", "signed")
    assert blocks[2]["input"] == {"query": "x"}
    assert seen.requests[1]["messages"][2]["content"][0]["tool_use_id"] == "toolu_0"
