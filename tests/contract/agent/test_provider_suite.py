"""What every network provider does alike: usage, cost, stop reasons, failures of each kind."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from gathering_agent.errors import ModelFailed, ModelNotConfigured, ModelRefused
from gathering_agent.models import JsonObject, Role, StopReason, ToolResult
from gathering_agent.models_catalogue import Prices
from gathering_agent.models_dialogue import Answer, Said, ToolSpec
from gathering_mesh.errors import DomainError
from tests.support.providers.anthropic_wire import anthropic_events
from tests.support.providers.kinds import KINDS, Kind, asked, provider, run
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply

PRICES = Prices(input=3_000_000, output=15_000_000, cached=300_000, cache_write=3_750_000)
OPENAI_CACHED = {"prompt_tokens_details": {"cached_tokens": 4}}
DEEPSEEK_CACHED = {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6}
SUBMIT: JsonObject = {
    "type": "object",
    "properties": {"verdict": {"enum": ["yes", "no"]}, "notes": {"type": "array"}},
    "required": ["verdict"],
    "additionalProperties": False,
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def _cost(answer: Answer) -> int | None:
    return PRICES.cost(
        answer.input_tokens,
        answer.output_tokens,
        answer.cached_input_tokens,
        answer.cache_write_tokens,
    )


@pytest.mark.parametrize(
    ("name", "events", "counts", "micros"),
    [
        ("anthropic", anthropic_events(["ok"]), (15, 5, 3, 2), 30 + 75 + 0.9 + 7.5),
        ("openai", openai_events(["ok"]), (10, 5, 0, 0), 30 + 75),
        ("openai", openai_events(["ok"], cached=OPENAI_CACHED), (10, 5, 4, 0), 18 + 75 + 1.2),
        ("openai", openai_events(["ok"], cached=DEEPSEEK_CACHED), (10, 5, 4, 0), 18 + 75 + 1.2),
    ],
    ids=["anthropic", "openai", "openai-cached", "deepseek-cached"],
)
async def test_usage_and_cost_tell_cached_tokens_apart(
    name: str, events: list[str], counts: tuple[int, ...], micros: float
) -> None:
    async with provider(KINDS[name], lambda _: Reply(events)) as (model, _):
        _, answer = await run(model, asked())
    assert answer.counted
    assert counts == (
        answer.input_tokens,
        answer.output_tokens,
        answer.cached_input_tokens,
        answer.cache_write_tokens,
    )
    assert _cost(answer) == -int(-micros // 1)


async def test_usage_that_was_not_told_is_marked() -> None:
    events = openai_events(["ok"], usage=None)
    async with provider(KINDS["openai"], lambda _: Reply(events)) as (model, _):
        texts, answer = await run(model, asked())
    assert texts == ["ok"]
    assert not answer.counted


async def test_tools_and_system_are_offered_to_the_cache() -> None:
    other = ToolSpec("other", "Does.", {})
    async with provider(KINDS["anthropic"], lambda _: Reply(anthropic_events(["ok"]))) as (m, seen):
        await run(m, asked(tools=(*asked().tools, other)))
        await run(m, asked(tools=(), system=""))
    sent, bare = seen.requests
    cached = {"type": "ephemeral"}
    assert sent["system"] == [{"type": "text", "text": "be good", "cache_control": cached}]
    assert [tool.get("cache_control") for tool in sent["tools"]] == [None, cached]
    assert "cache_control" not in json.dumps(bare)


async def test_parallel_tools_go_over_three_rounds(kind: Kind) -> None:
    def script(body: dict[str, Any]) -> Reply:
        said = [m for m in body["messages"] if m["role"] == "assistant"]
        calls = [("search_text", {"query": f"{len(said)}-{place}"}) for place in range(3)]
        return Reply(kind.events([], calls) if len(said) < 3 else kind.events(["done"]))

    async with provider(kind, script) as (model, seen):
        dialogue = [Said(Role.USER, "look")]
        for step in range(1, 4):
            _, answer = await run(model, asked(*dialogue, step=step))
            assert [c.arguments["query"] for c in answer.tool_calls] == [
                f"{step - 1}-{place}" for place in range(3)
            ]
            results = tuple(
                ToolResult(c.call_id, c.tool, f"found {c.call_id}") for c in answer.tool_calls
            )
            said = Said(Role.ASSISTANT, "", answer.tool_calls, native=answer.native)
            dialogue += [said, Said(Role.TOOL, tool_results=results)]
        texts, answer = await run(model, asked(*dialogue, step=4))
    assert texts == ["done"]
    assert not answer.tool_calls
    last = json.dumps(seen.requests[-1])
    assert last.count("found trn_") == 9


async def test_schema_of_a_result_arrives_whole_and_its_values_come_back(kind: Kind) -> None:
    value = {"verdict": "yes", "notes": [{"deep": 'ü\n"x"'}]}
    reply = Reply(kind.events([], [("submit_result", value)]))
    async with provider(kind, lambda _: reply) as (model, seen):
        spec = ToolSpec("submit_result", "Submit.", SUBMIT)
        _, answer = await run(model, asked(tools=(spec,)))
    (tool,) = seen.requests[0]["tools"]
    schema = tool["input_schema"] if "input_schema" in tool else tool["function"]["parameters"]
    assert schema == SUBMIT
    assert answer.tool_calls[0].arguments == value


ENDS = {
    "anthropic": {
        "end_turn": StopReason.END,
        "stop_sequence": StopReason.END,
        "pause_turn": StopReason.END,
        "tool_use": StopReason.END,
        "max_tokens": StopReason.MAX_TOKENS,
        "model_context_window_exceeded": StopReason.MAX_TOKENS,
        "refusal": StopReason.REFUSAL,
        "not_known_yet": StopReason.END,
    },
    "openai": {
        "stop": StopReason.END,
        "tool_calls": StopReason.END,
        "function_call": StopReason.END,
        "length": StopReason.MAX_TOKENS,
        "content_filter": StopReason.REFUSAL,
        "not_known_yet": StopReason.END,
    },
}


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [(name, word, reason) for name, ends in ENDS.items() for word, reason in ends.items()],
)
async def test_stop_reason_is_told(name: str, word: str, reason: StopReason) -> None:
    option = "stop" if name == "anthropic" else "finish"
    reply = Reply(KINDS[name].events(["x"], **{option: word}))
    async with provider(KINDS[name], lambda _: reply) as (model, _):
        _, answer = await run(model, asked())
    assert answer.stop_reason is reason
    assert answer.output_tokens == 5


async def test_server_without_capacity_is_a_failure() -> None:
    reply = Reply(openai_events(["x"], finish="insufficient_system_resource"))
    async with provider(KINDS["openai"], lambda _: reply) as (model, _):
        with pytest.raises(ModelFailed):
            await run(model, asked())


OVERFLOW = {
    "anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "openai": "This model's maximum context length is 128000 tokens.",
}


@pytest.mark.parametrize(
    ("status", "wait", "error", "refused"),
    [
        (400, None, ModelRefused, True),
        (401, None, ModelNotConfigured, True),
        (408, None, ModelFailed, False),
        (429, "7", ModelFailed, True),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", ModelFailed, True),
        (500, None, ModelFailed, False),
        (504, None, ModelFailed, False),
        (529, "2.5", ModelFailed, True),
    ],
)
async def test_refusal_uses_nothing_and_a_fault_may_have_and_both_say_when_to_come_back(
    kind: Kind, status: int, wait: str | None, error: type[DomainError], refused: bool
) -> None:
    name = "anthropic" if kind is KINDS["anthropic"] else "openai"
    headers = {"retry-after": wait} if wait else {}
    reply = Reply(status=status, error=OVERFLOW[name], code="context_length_exceeded",
                  headers=headers)  # fmt: skip
    async with provider(kind, lambda _: reply) as (model, seen):
        with pytest.raises(error) as caught:
            await run(model, asked())
    assert len(seen.requests) == 1
    assert caught.value.refused is refused  # type: ignore[attr-defined]  # of these three
    assert caught.value.retry_after == {"7": 7.0, "2.5": 2.5}.get(wait or "")
    assert OVERFLOW[name] in caught.value.message


@pytest.mark.parametrize("silent", [True, False], ids=["before-the-first-byte", "in-mid-stream"])
async def test_time_out_is_a_failure_that_may_have_used_something(kind: Kind, silent: bool) -> None:
    reply = Reply(kind.events(["half"], whole=False), silent=silent, hang=True)
    async with provider(kind, lambda _: reply, idle=0.2) as (model, seen):
        with pytest.raises(ModelFailed) as caught:
            await run(model, asked())
    assert len(seen.requests) == 1
    assert not (caught.value.refused or caught.value.unsent)


async def test_provider_that_cannot_be_reached_was_sent_nothing(kind: Kind) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        model = kind.make(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ModelFailed) as caught:
            await run(model, asked())
        await model.aclose()
    assert caught.value.unsent
    assert not caught.value.refused


MALFORMED = {
    "no-json": "data: {not json\n\n",
    "cut-json": 'data: {"choices": [{"index": 0, "del\n\n',
    "list": "data: [1, 2]\n\n",
    "no-fields": 'data: {"type": "content_block_delta", "choices": [{}]}\n\n',
    "wrong-types": 'data: {"type": "message_delta", "choices": 5, "delta": 7}\n\n',
}


@pytest.mark.parametrize("chunk", sorted(MALFORMED))
async def test_malformed_chunk_is_a_failure(kind: Kind, chunk: str) -> None:
    event = MALFORMED[chunk]
    if kind is KINDS["anthropic"]:
        event = f"event: {_named(event)}\n{event}"
    reply = Reply([*kind.events(["half"], whole=False), event])
    async with provider(kind, lambda _: reply) as (model, _):
        with pytest.raises(ModelFailed) as caught:
            await run(model, asked())
    assert not caught.value.refused


def _named(event: str) -> str:
    return "message_delta" if "message_delta" in event else "content_block_delta"
