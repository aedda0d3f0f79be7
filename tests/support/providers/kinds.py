"""The providers of the network, each against a server that speaks its format."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from gathering_agent.models import Role
from gathering_agent.models_dialogue import Answer, ModelRequest, Said, TextDelta, ToolSpec
from gathering_agent.ports import ModelProvider
from gathering_agent.provider_anthropic import AnthropicProvider
from gathering_agent.provider_openai import OpenAiProvider
from tests.support.providers.anthropic_wire import anthropic_events
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Script, Seen, serving

TURN = "trn_" + "0" * 32
SEARCH = ToolSpec(
    "search_text", "Searches.", {"type": "object", "properties": {"query": {"type": "string"}}}
)


@dataclass(frozen=True)
class Kind:
    path: str
    make: Callable[..., ModelProvider]
    events: Callable[..., list[str]]
    cut_off: str  # the stop reason of an answer that was too long
    input_tokens: int  # of a usage of 10: Anthropic counts cached input apart


KINDS = {
    "anthropic": Kind(
        "/v1/messages",
        lambda url, idle=5.0: AnthropicProvider("key", url, idle_timeout=idle),
        anthropic_events,
        "max_tokens",
        15,
    ),
    "openai": Kind(
        "/v1/chat/completions",
        lambda url, idle=5.0: OpenAiProvider("key", f"{url}/v1", idle_timeout=idle),
        openai_events,
        "length",
        10,
    ),
}


@asynccontextmanager
async def provider(
    kind: Kind, script: Script, idle: float = 5.0
) -> AsyncIterator[tuple[ModelProvider, Seen]]:
    async with AsyncExitStack() as stack:
        url, seen = await stack.enter_async_context(serving(kind.path, script))
        made = kind.make(url, idle)
        stack.push_async_callback(made.aclose)
        yield made, seen


def asked(*said: Said, **changes: Any) -> ModelRequest:
    messages = said or (Said(Role.USER, "hello"),)
    request = ModelRequest(TURN, 1, "test", "be good", messages, tools=(SEARCH,))
    return replace(request, **changes)


async def run(model: ModelProvider, request: ModelRequest) -> tuple[list[str], Answer]:
    events = [event async for event in model.stream(request)]
    assert isinstance(events[-1], Answer)
    return [event.text for event in events[:-1] if isinstance(event, TextDelta)], events[-1]
