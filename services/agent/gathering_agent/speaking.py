"""One model call: attempts with pauses, text passed on as it comes, the answer made clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol, cast

from gathering_agent.clean import clean_json, clean_object, clean_text
from gathering_agent.errors import ModelFailed, ModelRefused
from gathering_agent.live import Channel
from gathering_agent.models import JsonValue, Native, ToolCall
from gathering_agent.models_calls import Attempt, Begun
from gathering_agent.models_dialogue import Answer, ModelEvent, ModelRequest, TextDelta
from gathering_agent.ports import ModelProvider
from gathering_mesh import faults
from gathering_mesh.errors import DomainError
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
    """What a model said in one step; `begun` is the attempt that counts."""

    text: str
    answer: Answer
    begun: Begun


class Ledger(Protocol):
    """Knows what a turn may use, and is told what it used."""

    async def begin(self, request: ModelRequest, generation: str) -> Begun:
        """Let a call be made, as it may be made; raises BudgetExhausted, ModelPriceUnknown."""

    async def failed(self, attempt: Attempt) -> None:
        """Take down an attempt that came to nothing."""

    def cut(self, seconds: float) -> tuple[float, DomainError | None]:
        """Return how long a call may take that may take so long, and why not longer, if less."""


@dataclass(slots=True)
class _Said:
    """What came of an attempt so far."""

    parts: list[str] = field(default_factory=list)
    length: int = 0

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)
        if self.length > _LONGEST_TEXT:
            raise ModelRefused(f"the answer is longer than {_LONGEST_TEXT}")


class Speaker:
    """Calls models for one turn, as its ledger lets it."""

    def __init__(
        self, provider: ModelProvider, channel: Channel, patience: Patience, ledger: Ledger
    ) -> None:
        self._provider = provider
        self._channel = channel
        self._patience = patience
        self._ledger = ledger

    async def speak(self, request: ModelRequest, fence: int) -> Spoken:
        """Call the model until an attempt succeeds.

        Raises ModelFailed after the last attempt; ModelRefused, ModelNotConfigured and what the
        ledger raises at once. What a failed attempt wrote is void: the next one begins with a
        generation of its own.
        """
        attempt = 1
        while True:
            try:
                return await self._attempt(request, f"{fence}-{attempt}")
            except ModelFailed as error:
                if attempt >= self._patience.attempts:
                    raise
                pause = backoff(attempt, self._patience.first_pause, self._patience.most_pause)
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
            attempt += 1

    async def _attempt(self, request: ModelRequest, generation: str) -> Spoken:
        begun = await self._ledger.begin(request, generation)
        self._channel.begin(request.step, generation)
        said = _Said()
        try:
            await faults.point("turn.model_call")
            answer = await self._listen(begun.request, said)
        except BaseException as error:  # also when the turn is cancelled: it was used all the same
            await self._ledger.failed(_used(begun, said, error))
            raise
        return Spoken("".join(said.parts), _clean(answer), begun)

    async def _listen(self, request: ModelRequest, said: _Said) -> Answer:
        answer: Answer | None = None
        seconds, why = self._ledger.cut(self._patience.call_seconds)
        try:
            async with asyncio.timeout(seconds):
                events = cast("AsyncGenerator[ModelEvent, None]", self._provider.stream(request))
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, TextDelta):
                            text = clean_text(event.text)
                            said.add(text)
                            self._channel.add(text)
                        else:
                            answer = event
        except TimeoutError as error:
            if why is not None:
                raise why from error
            raise ModelFailed(f"the model did not answer within {seconds:.0f} s") from error
        if answer is None:
            raise ModelFailed("the provider's stream ended without an answer")
        return answer


def _used(begun: Begun, said: _Said, error: BaseException) -> Attempt:
    """Return what an attempt used at most; nothing where the provider refused or never saw it."""
    reason = error.reason if isinstance(error, DomainError) else "INTERNAL"
    if isinstance(error, asyncio.CancelledError):
        reason = "CANCELLED"
    unsent = getattr(error, "unsent", False)
    if (unsent or getattr(error, "refused", False)) and not said.parts:
        return begun.nothing(reason, unsent=unsent)
    return begun.bound(reason)


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
