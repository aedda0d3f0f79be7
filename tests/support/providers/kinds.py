"""The providers of the network, each against a server that speaks its format."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gathering_agent.models import Role, StopReason
from gathering_agent.ports import ModelProvider
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
    ToolSpec,
)
from gathering_agent.providers.provider_anthropic import AnthropicProvider
from gathering_agent.providers.provider_openai import OpenAiProvider
from gathering_agent.providers.provider_recorded import RecordedProvider
from tests.support.providers.anthropic_wire import (
    anthropic_broken,
    anthropic_error,
    anthropic_events,
)
from tests.support.providers.openai_wire import (
    DEEPSEEK,
    OLLAMA,
    OPENAI,
    VLLM,
    Dialect,
    openai_broken,
    openai_error,
    openai_events,
)
from tests.support.providers.serving import Json, Reply, Script, Seen, serving

TURN = "trn_" + "0" * 32
SEARCH = ToolSpec(
    "search_text", "Searches.", {"type": "object", "properties": {"query": {"type": "string"}}}
)
_OPENAI_STOPS = {
    "stop": StopReason.END,
    "tool_calls": StopReason.END,
    "function_call": StopReason.END,
    "length": StopReason.MAX_TOKENS,
    "content_filter": StopReason.REFUSAL,
    "not_known_yet": StopReason.END,
}


@dataclass(frozen=True)
class Kind:
    """A provider, and what its server says; see the wires for what differs."""

    path: str
    make: Callable[..., ModelProvider]
    events: Callable[..., list[str]]
    broken: list[str]  # the end of a stream whose server fails
    error: Callable[[int, str], Json]  # the body of an error
    overflow: tuple[int, str, str | None]  # status, message and code
    stops: dict[str, StopReason]
    counts: tuple[int, int, int, int]  # input, output, from the cache and into it, as we tell them
    micros: float  # what these cost, see PRICES of the suite
    cut_off: tuple[str, ...] = ()  # reasons that mean a cut stream
    thinks: str = ""  # the name of its reasoning on the wire
    recorded: bool = False

    def refusal(self, status: int, message: str, **more: Any) -> Reply:
        """Return an error as its server tells it."""
        return Reply(status=status, body=self.error(status, message), **more)


def _openai(
    dialect: Dialect,
    counts: tuple[int, int, int, int],
    micros: float,
    overflow: tuple[int, str, str | None],
    *cut_off: str,
    **options: Any,
) -> Kind:
    return Kind(
        "/v1/chat/completions",
        lambda url, idle=5.0: OpenAiProvider("key", f"{url}/v1", idle_timeout=idle, **options),
        partial(openai_events, dialect=dialect),
        openai_broken("busy"),
        lambda status, message: openai_error(
            dialect, status, message, overflow[2] if message == overflow[1] else None
        ),
        overflow,
        _OPENAI_STOPS,
        counts,
        micros,
        cut_off,
        dialect.thoughts,
    )


_WINDOW = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."
KINDS = {
    "anthropic": Kind(
        "/v1/messages",
        lambda url, idle=5.0: AnthropicProvider("key", url, idle_timeout=idle),
        anthropic_events,
        anthropic_broken("busy"),
        anthropic_error,
        (400, "prompt is too long: 210000 tokens > 200000 maximum", None),
        {
            "end_turn": StopReason.END,
            "stop_sequence": StopReason.END,
            "pause_turn": StopReason.END,
            "tool_use": StopReason.END,
            "max_tokens": StopReason.MAX_TOKENS,
            "model_context_window_exceeded": StopReason.MAX_TOKENS,
            "refusal": StopReason.REFUSAL,
            "not_known_yet": StopReason.END,
        },
        (15, 5, 3, 2),
        30 + 75 + 0.9 + 7.5,
        thinks="thinking",
    ),
    "openai": _openai(
        OPENAI, (10, 5, 4, 0), 18 + 75 + 1.2, (400, _WINDOW, "context_length_exceeded")
    ),
    "deepseek": _openai(
        DEEPSEEK,
        (10, 5, 4, 0),
        18 + 75 + 1.2,
        (400, _WINDOW, "invalid_request_error"),
        "insufficient_system_resource",
        wants_thoughts=True,
    ),
    "ollama": _openai(
        OLLAMA, (10, 5, 0, 0), 30 + 75, (400, "the input length exceeds the context length", None)
    ),
    "vllm": _openai(VLLM, (10, 5, 0, 0), 30 + 75, (400, _WINDOW, None), "abort", "error"),
}
KINDS |= {
    f"{name}, recorded": replace(KINDS[name], recorded=True) for name in ("anthropic", "deepseek")
}


class Rehearsed:
    """Passes on what a provider says and records it; then replays it, which has to be the same."""

    def __init__(self, provider: ModelProvider, folder: Path) -> None:
        self._recording = RecordedProvider("rehearsed", folder, provider)
        self._folder = folder

    async def aclose(self) -> None:
        await self._recording.aclose()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        seen: list[ModelEvent] = []
        async with aclosing(self._recording.stream(request)) as events:  # type: ignore[type-var]
            async for event in events:
                seen.append(event)
                yield event
        replaying = RecordedProvider("rehearsed", self._folder, None)
        assert [event async for event in replaying.stream(request)] == seen


@asynccontextmanager
async def provider(
    kind: Kind, script: Script | Reply | Sequence[Reply], idle: float = 5.0
) -> AsyncIterator[tuple[ModelProvider, Seen]]:
    """Yield a provider and what its server sees; replies are told one after the other."""
    async with AsyncExitStack() as stack:
        url, seen = await stack.enter_async_context(serving(kind.path, _script(script)))
        made = kind.make(url, idle)
        if kind.recorded:
            folder = stack.enter_context(TemporaryDirectory())
            made = Rehearsed(made, Path(folder))
        stack.push_async_callback(made.aclose)
        yield made, seen


def _script(given: Script | Reply | Sequence[Reply]) -> Script:
    if isinstance(given, Reply):
        return lambda _: given
    if callable(given):
        return given
    replies = iter(given)
    return lambda _: next(replies)


def asked(*said: Said, **changes: Any) -> ModelRequest:
    """Return a request."""
    messages = said or (Said(Role.USER, "hello"),)
    request = ModelRequest(TURN, 1, "test", "be good", messages, tools=(SEARCH,))
    return replace(request, **changes)


async def run(model: ModelProvider, request: ModelRequest) -> tuple[list[str], Answer]:
    """Return the texts and the answer of a call."""
    events = [event async for event in model.stream(request)]
    assert isinstance(events[-1], Answer)
    return [event.text for event in events[:-1] if isinstance(event, TextDelta)], events[-1]
