"""One model call: attempts with pauses, text passed on as it comes, the answer made clean."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol, cast

from gathering_agent.clean import clean_json, clean_object, clean_text
from gathering_agent.errors import (
    BudgetHeld,
    ModelContextExceeded,
    ModelFailed,
    ModelNotConfigured,
    ModelRefused,
    ModelUnavailable,
)
from gathering_agent.models import JsonValue, Native, ToolCall
from gathering_agent.ports import ModelProvider
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
)
from gathering_mesh import faults
from gathering_mesh.errors import DomainError
from gathering_mesh.loops import backoff

_log = logging.getLogger(__name__)
# What another model may do better; the same budget, content or cancellation would stop it as well.
_NEXT_MODEL = (ModelFailed, ModelUnavailable, ModelNotConfigured, ModelContextExceeded)
_LONGEST_TEXT = 1_000_000  # characters; no catalogue allows so many tokens


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a provider is tried. Times in seconds.

    `hasty`: a call has less time than providers are given, so that its end in time is no failure.
    """

    attempts: int = 4
    first_pause: float = 0.5
    most_pause: float = 20.0
    call_seconds: float = 900.0
    hasty: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a model said in one step; `begun` is the attempt that counts."""

    text: str
    answer: Answer
    begun: Begun


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked of one model of a chain; `last`: there is no other to ask instead."""

    model: Model
    request: ModelRequest
    last: bool


class Lines(Protocol):
    """The way to the models."""

    def open(self, model: Model, *, last: bool) -> AbstractAsyncContextManager[ModelProvider]:
        """Yield who answers one call; `last`: there is no other model to ask instead.

        Raises ModelNotConfigured, ModelUnavailable.
        """


class Voice(Protocol):
    """Passes on what a model says while it says it."""

    def begin(self, step: int, generation: str) -> None:
        """Begin an attempt at a step; what an earlier attempt said is void."""

    def add(self, text: str) -> None:
        """Add to the text of the attempt."""


class Ledger(Protocol):
    """Knows what a turn may use, and is told what it used."""

    async def begin(self, model: Model, request: ModelRequest, generation: str) -> Begun:
        """Let a call be made, as it may be made; waits for nothing.

        Raises BudgetHeld, BudgetExhausted, ModelPriceUnknown.
        """

    async def wait(self, held: BudgetHeld, tries: int) -> None:
        """Wait before a call that was held back so often is tried again; BudgetExhausted."""

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

    def __init__(self, lines: Lines, channel: Voice, patience: Patience, ledger: Ledger) -> None:
        self._lines = lines
        self._channel = channel
        self._patience = patience
        self._ledger = ledger

    async def speak(
        self, chain: Sequence[Model], ask: Callable[[Model], ModelRequest], fence: int
    ) -> Spoken:
        """Ask the models of a chain in turn until one answers; `ask` makes a model's request.

        Raises ModelFailed, ModelUnavailable, ModelNotConfigured or ModelContextExceeded as the last
        model does, and at once ModelRefused and what the ledger raises. What a failed attempt wrote
        is void: the next one begins with a generation of its own.
        """
        tries = itertools.count(1)
        for place, model in enumerate(chain, 1):
            last = place == len(chain)
            try:
                return await self._insist(
                    _Asking(model, _own(ask(model), model), last), fence, tries
                )
            except _NEXT_MODEL as error:
                if last:
                    raise
                _log.warning("%s is asked after %s: %r", chain[place].name, model.name, error)
        raise ValueError("an empty chain")

    async def _insist(self, asking: _Asking, fence: int, tries: Iterator[int]) -> Spoken:
        """Call a model until an attempt succeeds, as often as it is worth it."""
        for attempt in itertools.count(1):
            try:
                return await self._attempt(asking, f"{fence}-{next(tries)}")
            except ModelFailed as error:
                wait = error.retry_after or 0.0
                # Another model answers sooner than one that wants to be left alone for so long.
                impatient = not asking.last and wait > self._patience.most_pause
                if attempt >= self._patience.attempts or impatient:
                    raise
                pause = backoff(attempt, self._patience.first_pause, self._patience.most_pause)
                await asyncio.sleep(max(pause, wait))
        raise AssertionError

    async def _attempt(self, asking: _Asking, generation: str) -> Spoken:
        """Make one attempt; waiting for a budget keeps nobody else from the provider."""
        for tries in itertools.count(1):
            try:
                return await self._call(asking, generation)
            except BudgetHeld as held:
                await self._ledger.wait(held, tries)
        raise AssertionError

    async def _call(self, asking: _Asking, generation: str) -> Spoken:
        async with AsyncExitStack() as stack:
            provider = await self._connect(asking, generation, stack)
            begun = await self._ledger.begin(asking.model, asking.request, generation)
            self._channel.begin(begun.request.step, generation)
            said = _Said()
            try:
                await faults.point("turn.model_call")
                answer = await self._listen(provider, begun.request, said)
            except BaseException as error:  # when the turn is cancelled it was used all the same
                await self._ledger.failed(_used(begun, said, error))
                raise
        return Spoken("".join(said.parts), _clean(answer, asking.model), begun)

    async def _connect(
        self, asking: _Asking, generation: str, stack: AsyncExitStack
    ) -> ModelProvider:
        """Return who answers; a call that cannot even be tried is recorded as well."""
        try:
            async with self._in_time("the model was not free"):
                connected = self._lines.open(asking.model, last=asking.last)
                return await stack.enter_async_context(connected)
        except DomainError as error:
            never = Begun(asking.request, generation, asking.model, datetime.now(UTC), 0)
            await self._ledger.failed(never.nothing(error.reason, unsent=True))
            raise

    @asynccontextmanager
    async def _in_time(self, what: str) -> AsyncIterator[None]:
        """Cut what takes longer than a call may, or than a budget leaves to it."""
        seconds, why = self._ledger.cut(self._patience.call_seconds)
        bound = asyncio.timeout(seconds)
        try:
            async with bound:
                yield
        except TimeoutError as error:
            if why is not None and bound.expired():
                raise why from error
            failed = ModelFailed(f"{what} within {seconds:.0f} s")
            failed.hasty = self._patience.hasty
            raise failed from error

    async def _listen(self, provider: ModelProvider, request: ModelRequest, said: _Said) -> Answer:
        answer: Answer | None = None
        async with self._in_time("the model did not answer"):
            events = cast("AsyncGenerator[ModelEvent, None]", provider.stream(request))
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, TextDelta):
                        text = clean_text(event.text)
                        said.add(text)
                        self._channel.add(text)
                    else:
                        answer = event
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


def _own(request: ModelRequest, model: Model) -> ModelRequest:
    """Return a request without what only other models can read."""
    if not any(said.native for said in request.messages):
        return request
    return replace(request, messages=tuple(_readable(said, model) for said in request.messages))


def _readable(said: Said, model: Model) -> Said:
    native = said.native
    if native is None:
        return said
    # Messages of before are marked with the wire name; a name with a slash may be the catalogue's.
    old = native.model == model.wire_name and "/" not in native.model
    own = native.model == model.name or old
    return replace(said, native=replace(native, model=model.wire_name) if own else None)


def _clean(answer: Answer, model: Model) -> Answer:
    """Return the answer as it can be stored."""
    calls = tuple(map(_clean_call, answer.tool_calls))
    return replace(answer, tool_calls=calls, native=_clean_native(answer.native, model))


def _clean_call(call: ToolCall) -> ToolCall:
    tool = clean_text(call.tool)
    try:
        return replace(call, tool=tool, arguments=clean_object(call.arguments))
    except ValueError as error:
        return replace(call, tool=tool, arguments={}, problem=f"the arguments are {error}")


def _clean_native(native: Native | None, model: Model) -> Native | None:
    if native is None:
        return None
    try:
        content = clean_json(native.content)
    except ValueError:
        return None
    return Native(model.name, cast("list[JsonValue]", content))
