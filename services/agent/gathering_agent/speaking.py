"""One model call: attempts with pauses, text passed on as it comes, the answer made clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import cast

from gathering_agent.clean import clean_json, clean_object, clean_text
from gathering_agent.errors import ModelFailed, ModelRefused
from gathering_agent.live import Channel
from gathering_agent.models import JsonValue, Native, ToolCall
from gathering_agent.models_dialogue import Answer, ModelEvent, ModelRequest, TextDelta
from gathering_agent.ports import ModelProvider
from gathering_mesh.loops import backoff

_LONGEST_TEXT = 1_000_000  # characters; no catalogue allows so many tokens


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a provider is tried. Times in seconds."""

    attempts: int = 4
    first_pause: float = 0.5
    most_pause: float = 20.0
    call_seconds: float = 900.0


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a model said in one step; `generation` names the attempt that counts."""

    text: str
    answer: Answer
    generation: str


async def speak(
    provider: ModelProvider, request: ModelRequest, channel: Channel, fence: int, patience: Patience
) -> Spoken:
    """Call a model until an attempt succeeds.

    Raises ModelFailed after the last attempt, ModelRefused and ModelNotConfigured at once. What a
    failed attempt wrote is void: the next one begins with a generation of its own.
    """
    attempt = 1
    while True:
        generation = f"{fence}-{attempt}"
        channel.begin(request.step, generation)
        try:
            text, answer = await _attempt(provider, request, channel, patience.call_seconds)
        except ModelFailed as error:
            if attempt >= patience.attempts:
                raise
            pause = backoff(attempt, patience.first_pause, patience.most_pause)
            await asyncio.sleep(max(pause, error.retry_after or 0.0))
        else:
            return Spoken(text, _clean(answer), generation)
        attempt += 1


async def _attempt(
    provider: ModelProvider, request: ModelRequest, channel: Channel, seconds: float
) -> tuple[str, Answer]:
    parts: list[str] = []
    length = 0
    answer: Answer | None = None
    try:
        async with asyncio.timeout(seconds):
            events = cast("AsyncGenerator[ModelEvent, None]", provider.stream(request))
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, TextDelta):
                        text = clean_text(event.text)
                        parts.append(text)
                        length += len(text)
                        if length > _LONGEST_TEXT:
                            raise ModelRefused(f"the answer is longer than {_LONGEST_TEXT}")
                        channel.add(text)
                    else:
                        answer = event
    except TimeoutError as error:
        raise ModelFailed(f"the model did not answer within {seconds:.0f} s") from error
    if answer is None:
        raise ModelFailed("the provider's stream ended without an answer")
    return "".join(parts), answer


def _clean(answer: Answer) -> Answer:
    """Return the answer as it can be stored."""
    calls = tuple(map(_clean_call, answer.tool_calls))
    return replace(answer, tool_calls=calls, native=_clean_native(answer.native))


def _clean_call(call: ToolCall) -> ToolCall:
    tool = clean_text(call.tool)
    try:
        return replace(call, tool=tool, arguments=clean_object(call.arguments))
    except ValueError as error:
        return replace(call, tool=tool, arguments={}, problem=f"the arguments are {error}")


def _clean_native(native: Native | None) -> Native | None:
    if native is None:
        return None
    try:
        content = clean_json(native.content)
    except ValueError:
        return None
    return replace(native, content=cast("list[JsonValue]", content))
