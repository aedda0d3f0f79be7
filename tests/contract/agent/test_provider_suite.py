"""What every provider does alike, each through its SDK against a server that speaks its format."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

from gathering_agent.models import JsonObject, Role, StopReason, ToolCall, ToolResult
from gathering_agent.offline.model import think
from gathering_agent.providers.models_catalogue import Prices
from gathering_agent.providers.models_dialogue import Answer, Said, TextDelta, ToolSpec, ToolUse
from gathering_agent.providers.provider_offline import OfflineProvider
from gathering_agent.sessions.images import pictures
from tests.support.pictures import gif, png
from tests.support.providers.anthropic_wire import anthropic_events
from tests.support.providers.kinds import KINDS, SEARCH, TURN, Kind, asked, provider, run
from tests.support.providers.matrix import cell
from tests.support.providers.serving import Reply

PRICES = Prices(input=3_000_000, output=15_000_000, cached=300_000, cache_write=3_750_000)
RESULT: JsonObject = {
    "type": "object",
    "properties": {"verdict": {"enum": ["yes", "no"]}, "notes": {"type": "array"}},
    "required": ["verdict"],
    "additionalProperties": False,
}
SUBMIT = ToolSpec("submit_result", "Submit.", RESULT)
OFFLINE = OfflineProvider(think)


# --- Text ---------------------------------------------------------------------------------------


@cell("plain text")
async def test_text_arrives_in_pieces_and_says_why_it_ended(kind: Kind) -> None:
    async with provider(kind, Reply(kind.events(["Hel", "lo ", "there"]))) as (model, seen):
        texts, answer = await run(model, asked())
    assert "".join(texts) == "Hello there"
    assert answer.stop_reason is StopReason.END
    assert answer.tool_calls == ()
    assert seen.requests[0]["stream"] is True
    assert "be good" in json.dumps(seen.requests[0])


@cell("plain text", "offline")
async def test_offline_model_answers_and_says_what_it_is() -> None:
    texts, answer = await run(OFFLINE, asked(tools=()))
    assert "offline" in "".join(texts)
    assert answer.stop_reason is StopReason.END


@cell("streamed")
async def test_first_piece_arrives_before_the_last_is_written(kind: Kind) -> None:
    reply = Reply(kind.events(["one"], whole=False), hang=True)
    async with provider(kind, reply) as (model, _):
        stream = model.stream(asked())
        assert await asyncio.wait_for(anext(stream), 5) == TextDelta("one")
        await stream.aclose()  # type: ignore[attr-defined]  # a generator, as all providers


@cell("streamed", "offline")
async def test_offline_model_streams_in_pieces() -> None:
    texts, _ = await run(OFFLINE, asked(tools=()))
    assert len(texts) > 1


# --- Tools --------------------------------------------------------------------------------------


@cell("parallel tools over several rounds")
async def test_parallel_tools_go_over_three_rounds(kind: Kind) -> None:
    def script(body: dict[str, Any]) -> Reply:
        said = [m for m in body["messages"] if m["role"] == "assistant"]
        calls = [("search_text", {"query": f"{len(said)}-{place}"}) for place in range(3)]
        return Reply(kind.events(["Hm."], calls) if len(said) < 3 else kind.events(["done"]))

    async with provider(kind, script) as (model, seen):
        dialogue = [Said(Role.USER, "look")]
        for step in range(1, 4):
            texts, answer = await run(model, asked(*dialogue, step=step))
            assert [c.call_id for c in answer.tool_calls] == [
                f"{TURN}:{step}:{n}" for n in range(3)
            ]
            assert [c.arguments["query"] for c in answer.tool_calls] == [
                f"{step - 1}-{place}" for place in range(3)
            ]
            results = tuple(
                ToolResult(c.call_id, c.tool, f"found {place}", failed=place == 1)
                for place, c in enumerate(answer.tool_calls)
            )
            said = Said(Role.ASSISTANT, texts[0], answer.tool_calls, native=answer.native)
            dialogue += [said, Said(Role.TOOL, tool_results=results)]
        dialogue.append(Said(Role.USER, "Answer now."))
        texts, answer = await run(model, asked(*dialogue, step=4))
    assert texts == ["done"]
    assert not answer.tool_calls
    _results_name_their_calls(seen.requests[3])


def _results_name_their_calls(body: dict[str, Any]) -> None:
    """Check that each result names a call of the message before it, in that server's form."""
    messages = [m for m in body["messages"] if m["role"] != "system"]
    if any(m["role"] == "tool" for m in messages):
        wanted = [c["id"] for m in messages for c in m.get("tool_calls", ())]
        results = [m for m in messages if m["role"] == "tool"]
        assert [m["tool_call_id"] for m in results] == wanted
        assert all(len(i) <= 40 for i in wanted)
        assert len(set(wanted)) == 9
        assert results[1]["content"] == "failed: found 1"
        assert messages[-1] == {"role": "user", "content": "Answer now."}
    else:
        assert [m["role"] for m in messages] == ["user", "assistant"] * 3 + ["user"]
        for call, result in zip(messages[1::2], messages[2::2], strict=True):
            wanted = [b["id"] for b in call["content"] if b["type"] == "tool_use"]
            results = [b for b in result["content"] if b["type"] == "tool_result"]
            assert [b["tool_use_id"] for b in results] == wanted
            assert [b["is_error"] for b in results] == [False, True, False]
        assert messages[-1]["content"][-1] == {"type": "text", "text": "Answer now."}


@cell("parallel tools over several rounds", "offline")
async def test_offline_model_uses_a_tool_and_answers_with_what_it_found() -> None:
    spec = ToolSpec("memory_recall", "Finds.", {"type": "object"})
    question = Said(Role.USER, "What do you remember about the harbour?")
    _, answer = await run(OFFLINE, asked(question, tools=(spec,), tool_calls_left=5))
    (call,) = answer.tool_calls
    assert call.call_id == f"{TURN}:1:0"
    found = json.dumps({"memories": [{"memory_id": "m", "text": "It freezes.", "score": 1.0}]})
    result = Said(Role.TOOL, tool_results=(ToolResult(call.call_id, call.tool, found),))
    said = Said(Role.ASSISTANT, "", (call,))
    texts, answer = await run(
        OFFLINE, asked(question, said, result, tools=(spec,), step=2, tool_calls_left=4)
    )
    assert "It freezes." in "".join(texts)
    assert not answer.tool_calls


async def test_tools_that_no_provider_would_name_go_out_by_names_that_it_takes() -> None:
    """A model asked for them though there are none, or a document of elsewhere names them."""
    wanted = {"functions.read file": "functions_read_file", "": "_", "x" * 99: "x" * 64}
    calls = tuple(ToolCall(f"{TURN}:1:{n}", name, {}) for n, name in enumerate(wanted))
    results = tuple(ToolResult(call.call_id, call.tool, "no") for call in calls)
    dialogue = (
        Said(Role.USER, "q"),
        Said(Role.ASSISTANT, "", calls),
        Said(Role.TOOL, "", (), results),
    )
    for kind in (KINDS["anthropic"], KINDS["openai"]):
        async with provider(kind, _ok(kind)) as (model, seen):
            await run(model, asked(*dialogue))
        said = next(m for m in seen.requests[0]["messages"] if m["role"] == "assistant")
        parts = said.get("tool_calls") or said["content"]
        assert [one.get("function", one)["name"] for one in parts] == list(wanted.values())


async def test_model_may_be_kept_from_tools() -> None:
    for kind in (KINDS["anthropic"], KINDS["openai"]):
        async with provider(kind, Reply(kind.events(["ok"]))) as (model, seen):
            await run(model, asked(tool_use=ToolUse.NONE))
            await run(model, asked(tools=()))
        assert seen.requests[0]["tool_choice"] in ("none", {"type": "none"})
        assert "tools" not in seen.requests[1]


@cell("broken tool arguments")
async def test_broken_arguments_are_told_with_the_call(kind: Kind) -> None:
    reply = Reply(kind.events([], [("search_text", '{"query": "TO'), ("search_text", "[1]")]))
    async with provider(kind, reply) as (model, _):
        _, answer = await run(model, asked())
    assert "not JSON" in answer.tool_calls[0].problem
    assert "object" in answer.tool_calls[1].problem


@cell("structured output")
async def test_schema_of_a_result_arrives_whole_and_its_values_come_back(kind: Kind) -> None:
    value = {"verdict": "yes", "notes": [{"deep": 'ü\n"x"'}]}
    reply = Reply(kind.events([], [("submit_result", value)]))
    async with provider(kind, reply) as (model, seen):
        _, answer = await run(model, asked(tools=(SUBMIT,)))
    (tool,) = seen.requests[0]["tools"]
    schema = tool["input_schema"] if "input_schema" in tool else tool["function"]["parameters"]
    assert schema == RESULT
    assert answer.tool_calls[0].arguments == value


@cell("structured output", "offline")
async def test_offline_model_hands_in_a_result_that_fits() -> None:
    _, answer = await run(OFFLINE, asked(tools=(SUBMIT,), result_schema=RESULT))
    (call,) = answer.tool_calls
    assert call.tool == "submit_result"
    assert call.arguments["verdict"] in ("yes", "no")


@cell("image input")
async def test_images_go_before_the_text_that_is_said_of_them(kind: Kind) -> None:
    images = pictures([png(2, 3), gif(4, 5)])
    said = Said(Role.USER, "what is this?", images=images)
    async with provider(kind, _ok(kind)) as (model, seen):
        await run(model, asked(said))
    message = seen.requests[0]["messages"][-1]
    *shown, text = message["content"]
    assert text == {"type": "text", "text": "what is this?"}
    wanted = [(one.media_type, base64.b64encode(one.data).decode()) for one in images]
    if kind.path == "/v1/messages":
        assert [block["type"] for block in shown] == ["image", "image"]
        sources = [block["source"] for block in shown]
        assert {source["type"] for source in sources} == {"base64"}
        assert [(source["media_type"], source["data"]) for source in sources] == wanted
    else:
        urls = [f"data:{media_type};base64,{data}" for media_type, data in wanted]
        assert shown == [{"type": "image_url", "image_url": {"url": url}} for url in urls]


# --- Thoughts -----------------------------------------------------------------------------------


@cell("thoughts given back")
async def test_thoughts_go_back_to_their_model_only_and_are_no_text(kind: Kind) -> None:
    calls = [("search_text", {"query": "x"})]
    replies = [Reply(kind.events(["Hm."], calls, thinking="let me see")), *[_ok(kind)] * 2]
    async with provider(kind, replies) as (model, seen):
        texts, answer = await run(model, asked())
        said = Said(Role.ASSISTANT, texts[0], answer.tool_calls, native=answer.native)
        assert answer.native is not None
        stranger = replace(said, native=replace(answer.native, model="other"))
        result = ToolResult(answer.tool_calls[0].call_id, "search_text", "y")
        for step, one in enumerate((said, stranger), 2):
            told = (Said(Role.USER, "q"), one, Said(Role.TOOL, tool_results=(result,)))
            await run(model, asked(*told, step=step))
    assert texts == ["Hm."]
    own, other = (json.dumps(request) for request in seen.requests[1:])
    assert "let me see" in own
    assert "let me see" not in other
    assert "Hm." in other
    assert kind.thinks in own


def _ok(kind: Kind) -> Reply:
    return Reply(kind.events(["ok"]))


async def test_signature_of_a_thought_goes_back_with_it_and_the_call_keeps_its_id() -> None:
    events = anthropic_events(["Hm."], [("search_text", {"query": "x"})], thinking="let me see")
    kind = KINDS["anthropic"]
    async with provider(kind, [Reply(events), _ok(kind)]) as (model, seen):
        texts, answer = await run(model, asked())
        said = Said(Role.ASSISTANT, texts[0], answer.tool_calls, native=answer.native)
        result = ToolResult(answer.tool_calls[0].call_id, "search_text", "y")
        await run(model, asked(Said(Role.USER, "q"), said, Said(Role.TOOL, tool_results=(result,))))
    blocks = seen.requests[1]["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
    assert (blocks[0]["thinking"], blocks[0]["signature"]) == ("let me see", "signed")
    assert blocks[2]["input"] == {"query": "x"}
    assert seen.requests[1]["messages"][2]["content"][0]["tool_use_id"] == "toolu_0"


async def test_tool_that_a_model_made_up_goes_back_by_a_name_that_it_takes() -> None:
    events = anthropic_events([], [("files.read: all", {})])
    kind = KINDS["anthropic"]
    async with provider(kind, [Reply(events), _ok(kind)]) as (model, seen):
        _, answer = await run(model, asked())
        assert answer.tool_calls[0].tool == "files.read: all"
        said = Said(Role.ASSISTANT, "", answer.tool_calls, native=answer.native)
        result = ToolResult(answer.tool_calls[0].call_id, "files.read: all", "there is none")
        await run(model, asked(Said(Role.USER, "q"), said, Said(Role.TOOL, tool_results=(result,))))
    (block,) = seen.requests[1]["messages"][1]["content"]
    assert (block["type"], block["name"], block["id"]) == ("tool_use", "files_read__all", "toolu_0")


async def test_deepseek_gets_an_empty_thought_where_none_is_known_and_others_none() -> None:
    """It refuses tool calls without the field, also where it thought nothing."""
    call = ToolCall(f"{TURN}:1:0", SEARCH.name, {})
    result = Said(Role.TOOL, tool_results=(ToolResult(call.call_id, call.tool, "y"),))
    foreign = Said(Role.ASSISTANT, "", (call,))
    plain = Said(Role.ASSISTANT, "so")
    for name, wanted in (("deepseek", ""), ("ollama", None)):
        kind = KINDS[name]
        empty = Reply(kind.events([], [(SEARCH.name, {})], thinking=""))
        async with provider(kind, [empty, _ok(kind)]) as (model, seen):
            _, answer = await run(model, asked())
            own = Said(Role.ASSISTANT, "", answer.tool_calls, native=answer.native)
            told = (Said(Role.USER, "q"), foreign, result, plain, own, result)
            await run(model, asked(*told, step=2))
        first, second, third = [m for m in seen.requests[1]["messages"] if m["role"] == "assistant"]
        assert first.get("reasoning_content") == wanted
        assert "reasoning_content" not in second
        assert third[kind.thinks] == ""


async def test_history_of_another_model_is_retold() -> None:
    for kind in (KINDS["anthropic"], KINDS["openai"]):
        async with provider(kind, _ok(kind)) as (model, seen):
            native = (await run(model, asked()))[1].native
            native = replace(native, model="other") if native else None
            said = Said(Role.ASSISTANT, "two", native=native)
            await run(model, asked(Said(Role.USER, "one"), said, Said(Role.USER, "three")))
        assert "two" in json.dumps(seen.requests[1])


# --- The end ------------------------------------------------------------------------------------


@cell("every stop reason")
async def test_stop_reason_is_told(kind: Kind) -> None:
    replies = [Reply(kind.events(["x"], stop=word)) for word in kind.stops]
    told = {}
    async with provider(kind, replies) as (model, _):
        for step, word in enumerate(kind.stops):
            _, answer = await run(model, asked(Said(Role.USER, word), step=step))
            assert answer.output_tokens == 5
            told[word] = answer.stop_reason
    assert told == kind.stops


@cell("usage, cached tokens and cost")
async def test_usage_and_cost_tell_cached_tokens_apart(kind: Kind) -> None:
    async with provider(kind, _ok(kind)) as (model, _):
        _, answer = await run(model, asked())
    assert answer.counted
    assert _counts(answer) == kind.counts
    assert PRICES.cost(*kind.counts) == -int(-kind.micros // 1)


@cell("usage, cached tokens and cost", "offline")
async def test_offline_model_counts_four_bytes_as_a_token() -> None:
    texts, answer = await run(OFFLINE, asked(tools=()))
    assert _counts(answer) == (-(-len("be goodhello") // 4), -(-len("".join(texts)) // 4), 0, 0)


def _counts(answer: Answer) -> tuple[int, int, int, int]:
    return (
        answer.input_tokens,
        answer.output_tokens,
        answer.cached_input_tokens,
        answer.cache_write_tokens,
    )


async def test_usage_that_was_not_told_is_marked() -> None:
    for name in ("openai", "deepseek", "ollama", "vllm"):
        kind = KINDS[name]
        async with provider(kind, Reply(kind.events(["ok"], usage=None))) as (model, seen):
            texts, answer = await run(model, asked())
        assert texts == ["ok"]
        assert not answer.counted
        assert seen.requests[0]["stream_options"] == {"include_usage": True}


async def test_tools_and_system_are_offered_to_the_cache() -> None:
    other = ToolSpec("other", "Does.", {})
    kind = KINDS["anthropic"]
    async with provider(kind, _ok(kind)) as (model, seen):
        await run(model, asked(tools=(*asked().tools, other)))
        await run(model, asked(tools=(), system=""))
    sent, bare = seen.requests
    cached = {"type": "ephemeral"}
    assert sent["system"] == [{"type": "text", "text": "be good", "cache_control": cached}]
    assert [tool.get("cache_control") for tool in sent["tools"]] == [None, cached]
    assert "cache_control" not in json.dumps(bare)
