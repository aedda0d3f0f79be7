"""Which models an agent asks in turn, and what of a dialogue each of them is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gathering_agent.agents.models import AgentFields
from gathering_agent.errors import (
    BudgetHeld,
    ModelContextExceeded,
    ModelFailed,
    ModelNotConfigured,
    ModelRefused,
    ModelUnavailable,
    Refusal,
)
from gathering_agent.models import Native, Role
from gathering_agent.providers.catalogue import Catalogue
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import (
    Answer,
    ModelEvent,
    ModelRequest,
    Said,
    TextDelta,
)
from gathering_agent.providers.speaking import Patience, Speaker
from gathering_agent.streams.live import Live
from gathering_mesh.errors import DomainError

FIRST = Model("a/one", "a", "one", 128_000, 4096)
SECOND = Model("b/a/one", "b", "a/one", 128_000, 4096)
THIRD = Model("c/three", "c", "three", 128_000, 4096)
CATALOGUE = Catalogue([FIRST, SECOND, THIRD], "a/one")
QUICK = Patience(attempts=2, first_pause=0.0, most_pause=0.0)
Failure = Callable[[], Exception]


def names(fields: AgentFields, answered: str = "") -> list[str]:
    return [model.name for model in CATALOGUE.chain(fields, answered)]


def test_chain_is_the_model_and_its_fallbacks() -> None:
    assert names(AgentFields()) == ["a/one"]
    fields = AgentFields(model="c/three", fallback_models=("b/a/one", "a/one"))
    assert names(fields) == ["c/three", "b/a/one", "a/one"]


def test_model_that_answered_last_is_asked_first() -> None:
    fields = AgentFields(model="c/three", fallback_models=("b/a/one", "a/one"))
    assert names(fields, "a/one") == ["a/one", "c/three", "b/a/one"]
    assert names(fields, "gone") == ["c/three", "b/a/one", "a/one"]


def test_model_that_left_the_catalogue_is_passed_over() -> None:
    assert names(AgentFields(model="gone", fallback_models=("c/three",))) == ["c/three"]
    with pytest.raises(ModelNotConfigured):
        names(AgentFields(model="gone"))
    with pytest.raises(ModelNotConfigured):
        Catalogue([FIRST], "gone")


class _Lines:
    """Models that fail as a test says, and answer when it says nothing more."""

    def __init__(self, **failures: list[Failure]) -> None:
        self.failures = failures  # by provider
        self.asked: list[ModelRequest] = []
        self.called: list[str] = []
        self.open_now = 0

    @asynccontextmanager
    async def open(self, model: Model, *, last: bool) -> AsyncIterator[_Answering]:
        failures = self.failures.get(model.provider, [])
        self.called.append(model.name + "!" * last)
        if failures and isinstance(failures[0](), ModelUnavailable):
            raise failures.pop(0)()
        self.open_now += 1
        try:
            yield _Answering(self, failures)
        finally:
            self.open_now -= 1


class _Answering:
    def __init__(self, lines: _Lines, failures: list[Failure]) -> None:
        self._lines = lines
        self._failures = failures

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self._lines.asked.append(request)
        yield TextDelta("text")
        if self._failures:
            raise self._failures.pop(0)()
        yield Answer(native=Native(request.model, [{"type": "text"}]))

    async def aclose(self) -> None:
        """Release nothing."""


class _Ledger:
    """Lets every call be made that nothing holds back, and keeps what came to nothing."""

    def __init__(self, *held: BudgetHeld) -> None:
        self.failures: list[Attempt] = []
        self.held = list(held)
        self.waits: list[tuple[BudgetHeld, int]] = []

    async def begin(self, model: Model, request: ModelRequest, generation: str) -> Begun:
        if self.held:
            raise self.held.pop(0)
        return Begun(request, generation, model, datetime(2026, 1, 1, tzinfo=UTC), 1)

    async def wait(self, held: BudgetHeld, tries: int) -> None:
        self.waits.append((held, tries))

    async def failed(self, attempt: Attempt) -> None:
        self.failures.append(attempt)

    def cut(self, seconds: float) -> tuple[float, DomainError | None]:
        return seconds, None


REQUEST = ModelRequest("trn_" + "0" * 32, 1, "", "", (Said(Role.USER, "hello"),))


async def speak(lines: _Lines, ledger: _Ledger, *chain: Model, said: tuple[Said, ...] = ()) -> str:
    def ask(model: Model) -> ModelRequest:
        return replace(REQUEST, model=model.wire_name, messages=(*REQUEST.messages, *said))

    with Live().running(REQUEST.turn_id) as channel:
        spoken = await Speaker(lines, channel, QUICK, ledger).speak(chain, ask, fence=5)
    assert spoken.answer.native is not None
    assert spoken.answer.native.model == spoken.begun.model.name
    return spoken.begun.model.name


def failing(error: type[DomainError], **values: float) -> Failure:
    return lambda: error("no", **values)  # type: ignore[arg-type]


async def test_next_model_is_asked_when_the_attempts_are_used_up() -> None:
    lines = _Lines(a=[failing(ModelFailed)] * 2, b=[failing(ModelUnavailable)])
    ledger = _Ledger()
    assert await speak(lines, ledger, FIRST, SECOND, THIRD) == "c/three"
    assert lines.called == ["a/one", "a/one", "b/a/one", "c/three!"]
    told = [(one.model, one.generation, one.error_reason, one.unsent) for one in ledger.failures]
    assert told == [
        ("a/one", "5-1", "MODEL_FAILED", False),
        ("a/one", "5-2", "MODEL_FAILED", False),
        ("b/a/one", "5-3", "MODEL_UNAVAILABLE", True),
    ]


async def test_call_that_waits_for_a_budget_keeps_nobody_from_the_provider() -> None:
    held = BudgetHeld(Refusal("bgt", "agent", "agt", "tokens", 9, 4, 5))
    lines, open_while_it_waited = _Lines(), []

    class Waiting(_Ledger):
        async def wait(self, held: BudgetHeld, tries: int) -> None:
            await super().wait(held, tries)
            open_while_it_waited.append(lines.open_now)

    ledger = Waiting(held, held)
    assert await speak(lines, ledger, FIRST) == "a/one"
    assert open_while_it_waited == [0, 0]
    assert ledger.waits == [(held, 1), (held, 2)]
    assert ledger.failures == [], "a call that was not made is no attempt"


@pytest.mark.parametrize("why", [ModelNotConfigured, ModelContextExceeded])
async def test_model_that_cannot_answer_is_passed_over_at_once(why: type[DomainError]) -> None:
    lines = _Lines(a=[failing(why)])
    assert await speak(lines, _Ledger(), FIRST, THIRD) == "c/three"
    assert lines.called == ["a/one", "c/three!"]


async def test_model_that_wants_a_long_pause_is_not_waited_for() -> None:
    lines = _Lines(a=[failing(ModelFailed, retry_after=60.0)])
    assert await speak(lines, _Ledger(), FIRST, THIRD) == "c/three"
    assert lines.called == ["a/one", "c/three!"]


async def test_refusal_ends_the_step_whatever_models_are_left() -> None:
    lines = _Lines(a=[failing(ModelRefused)])
    with pytest.raises(ModelRefused):
        await speak(lines, _Ledger(), FIRST, THIRD)
    assert lines.called == ["a/one"]


async def test_last_failure_is_told_when_no_model_is_left() -> None:
    lines = _Lines(a=[failing(ModelNotConfigured)], c=[failing(ModelFailed)] * 2)
    with pytest.raises(ModelFailed):
        await speak(lines, _Ledger(), FIRST, THIRD)


async def test_model_is_given_back_its_own_thoughts_alone() -> None:
    written = [Native(name, [name]) for name in ("a/one", "b/a/one", "one", "three")]
    said = tuple(Said(Role.ASSISTANT, native=one) for one in written)
    expected = {
        FIRST: {"a/one": "one", "one": "one"},  # the wire name stands in messages of before
        SECOND: {"b/a/one": "a/one"},  # and not what another model has as the catalogue's name
        THIRD: {"three": "three"},
    }
    for model, sent in expected.items():
        lines = _Lines()
        await speak(lines, _Ledger(), model, said=said)
        natives = [said.native for said in lines.asked[0].messages if said.native]
        assert {str(native.content[0]): native.model for native in natives} == sent
