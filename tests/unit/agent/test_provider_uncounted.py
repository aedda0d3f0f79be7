"""A provider that does not tell what was used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from gathering_agent.context.offering import input_bound
from gathering_agent.errors import BudgetHeld
from gathering_agent.models import Role
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.models_catalogue import Model, Prices
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

REQUEST = ModelRequest("trn_" + "0" * 32, 1, "m", "be good", (Said(Role.USER, "hello"),))
MODEL = Model("x/m", "x", "m", 128_000, 4096, Prices(3_000_000, 15_000_000))


class _Uncounted:
    """Answers without usage, as some servers of OpenAI's format do."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield TextDelta("an answer")
        yield Answer(counted=False)

    async def aclose(self) -> None:
        """Release nothing."""


class _Direct:
    """Leads to it."""

    @asynccontextmanager
    async def open(self, model: Model, *, last: bool) -> AsyncIterator[_Uncounted]:
        yield _Uncounted()


class _Open:
    """Lets every call be made."""

    async def begin(self, model: Model, request: ModelRequest, generation: str) -> Begun:
        bound = input_bound(request)
        return Begun(request, generation, model, datetime(2026, 1, 1, tzinfo=UTC), bound)

    async def wait(self, held: BudgetHeld, tries: int) -> None:
        raise AssertionError(held)

    async def failed(self, attempt: Attempt) -> None:
        raise AssertionError(attempt)

    def cut(self, seconds: float) -> tuple[float, DomainError | None]:
        return seconds, None


async def test_usage_that_was_not_told_is_the_bound() -> None:
    with Live().running(REQUEST.turn_id) as channel:
        speaker = Speaker(_Direct(), channel, Patience(), _Open())
        spoken = await speaker.speak([MODEL], lambda _: REQUEST, fence=1)
    used = spoken.begun.answered(spoken.answer)
    assert used.estimated
    assert used.input_tokens == input_bound(REQUEST) > len(b"be goodhello")
    assert used.output_tokens == REQUEST.max_output_tokens
    assert used.cost == -(-(used.input_tokens * 3 + used.output_tokens * 15) // 1)
