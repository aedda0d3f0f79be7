"""What the model calls of one turn take from the budgets that bind it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from gathering_agent.budgets.models import Budget, Denied, first_late
from gathering_agent.context.offering import input_bound
from gathering_agent.errors import BudgetExhausted, BudgetHeld, Refusal
from gathering_agent.models import Turn, Usage
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import ModelRequest
from gathering_agent.turns.journal import Journal, Pen
from gathering_mesh.errors import DomainError
from gathering_mesh.lease import HandOver
from gathering_mesh.loops import backoff

_log = logging.getLogger(__name__)
_LEAST_OUTPUT = 256  # tokens; with less room than that a call is not worth its input
_FIRST_PAUSE, _MOST_PAUSE = 0.05, 1.0  # seconds
_IN_LINE = 4  # times as long as it waits for a budget may it take with waits for a place in between


class Bound(Protocol):
    """A turn that runs: as it stands, and the budgets that bind it now."""

    pen: Pen
    turn: Turn
    budgets: tuple[Budget, ...]


class Spending:
    """The ledger of a turn: reserves before each call, and records what came to nothing.

    A turn that no budget binds reserves nothing and writes nothing before its calls.
    """

    def __init__(self, journal: Journal, run: Bound, wait_seconds: float) -> None:
        self._journal = journal
        self._run = run
        self._wait_seconds = wait_seconds
        self._waited = 0.0  # seconds, of the call that waits now
        self._since = 0.0  # when it began to (time.monotonic())

    async def begin(self, model: Model, request: ModelRequest, generation: str) -> Begun:
        """See `speaking.Ledger`."""
        begun = Begun(
            request, generation, model, datetime.now(UTC), input_bound(request),
            reserved=bool(self._run.budgets),
        )  # fmt: skip
        if not begun.reserved:
            return begun
        output = await self._reserve(begun)
        return replace(begun, request=replace(request, max_output_tokens=output))

    async def _reserve(self, begun: Begun) -> int:
        least = min(_LEAST_OUTPUT, begun.request.max_output_tokens)
        run = self._run
        said = await self._journal.reserve(run.pen, run.turn, begun, run.budgets, least)
        if not isinstance(said, Denied):
            return said.output_tokens
        raise BudgetHeld(said.refusal) if said.passes else BudgetExhausted(said.refusal)

    async def wait(self, held: BudgetHeld, tries: int) -> None:
        """See `speaking.Ledger`: for `wait_seconds`, or longer where it stands in line in between.

        It does so at a provider that takes no more calls, after each of its pauses.
        """
        if tries == 1:
            self._waited, self._since = 0.0, time.monotonic()
        late = time.monotonic() - self._since > _IN_LINE * self._wait_seconds
        if late or self._waited > self._wait_seconds:
            raise BudgetExhausted(held.refusal) from held
        if self._run.pen.lease.draining:
            raise HandOver
        pause = backoff(tries, _FIRST_PAUSE, _MOST_PAUSE)
        self._waited += pause
        await asyncio.sleep(pause)

    async def failed(self, attempt: Attempt) -> None:
        """See `speaking.Ledger`; a database that is away changes no turn.

        What is not recorded then is settled at its bound when the turn ends, or is taken over.
        """
        run = self._run
        used = Usage(failed_calls=1, failed_tokens=attempt.tokens, failed_cost=attempt.cost)
        run.turn = replace(run.turn, usage=run.turn.usage + used)
        try:
            await self._journal.used(run.pen.lease.tenant, run.turn, attempt)
        except (DomainError, TimeoutError) as error:
            _log.warning("not recorded of turn %s: %s: %r", run.turn.id, attempt, error)

    def cut(self, seconds: float) -> tuple[float, DomainError | None]:
        """See `speaking.Ledger`: wall time cuts a call that is in flight."""
        left, late = _time_left(self._run.budgets)
        if left is None or late is None or left >= seconds:
            return seconds, None
        return left, BudgetExhausted(late)


@asynccontextmanager
async def in_time(budgets: Sequence[Budget]) -> AsyncIterator[None]:
    """Cut what is done inside when the wall time of a budget is over; BudgetExhausted."""
    left, late = _time_left(budgets)
    bound = asyncio.timeout(left)
    try:
        async with bound:
            yield
    except TimeoutError as error:
        if late is None or not bound.expired():
            raise
        raise BudgetExhausted(late) from error


def _time_left(budgets: Sequence[Budget]) -> tuple[float | None, Refusal | None]:
    """Return the seconds until the first wall time is over, and what to say then."""
    first = first_late(budgets)
    if first is None or first.deadline is None:
        return None, None
    return max(0.0, (first.deadline - datetime.now(UTC)).total_seconds()), first.late()
