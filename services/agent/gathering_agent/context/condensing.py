"""Condenses what a turn cannot be shown word by word, before its first model call.

A digest is stored with the sequence up to which it reaches, and later turns go on from it. By rules
it costs nothing; where the agent's definition names a model that model writes it, in a call that is
booked and recorded as any other. What its window has no room for, the rules tell behind its text.
Whoever takes the turn over finds the digest, or makes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from gathering_agent.budgets.models import Budget
from gathering_agent.budgets.spending import Spending
from gathering_agent.context.context import Setting, output_of, room_of
from gathering_agent.context.counting import tokens
from gathering_agent.context.digests import brief, extended
from gathering_agent.context.marking import data
from gathering_agent.context.models import Digest
from gathering_agent.context.offering import input_bound
from gathering_agent.context.prompts import CONDENSE
from gathering_agent.context.retelling import retold
from gathering_agent.context.windows import cut_sizes
from gathering_agent.errors import (
    BudgetExhausted,
    ModelFailed,
    ModelNotConfigured,
    ModelPriceUnknown,
    ModelRefused,
    ModelUnavailable,
)
from gathering_agent.models import Message, Role, Session, Turn
from gathering_agent.providers.lines import Lines
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import ModelRequest, Purpose, Said
from gathering_agent.providers.speaking import Speaker
from gathering_agent.turns.journal import Journal, Pen
from gathering_agent.turns.policy import Policy
from gathering_mesh.lease import Lease

_log = logging.getLogger(__name__)
# What keeps a model from condensing; the rules do it then.
_RULES_DO = (
    BudgetExhausted,
    ModelFailed,
    ModelNotConfigured,
    ModelPriceUnknown,
    ModelRefused,
    ModelUnavailable,
)
_PAGE = 1000  # messages that are condensed at a time
_MOST = 300  # messages before a turn that are kept word by word
_KEPT = 100  # that are left when there are more
_FULL, _LEFT = 0.6, 0.3  # of the room: where it begins, and what is left then
_ANSWER = 1500  # tokens of a model's digest
_BASE = 3  # the share of its room for the digest that it goes on from
_LONGEST_RESULT = 600  # characters of a tool's result that the model is shown


class Run(Protocol):
    """A turn in the hands of a worker, as far as this needs it."""

    lease: Lease
    session: Session
    setting: Setting
    history: list[Message]
    turn: Turn
    pen: Pen
    budgets: tuple[Budget, ...]


class Condensing:
    """Makes room in turns that begin."""

    def __init__(self, journal: Journal, lines: Lines, policy: Policy) -> None:
        self._journal = journal
        self._lines = lines
        self._policy = policy

    async def prepare(self, run: Run) -> None:
        """Condense what is before the messages that were read, and of these what is too much."""
        first = next(n for n, m in enumerate(run.history) if m.turn_id == run.turn.id)
        known = run.setting.digest
        reached = known.upto if known else 0
        base = await self._gap(run, known or Digest(), run.history[0].sequence - 1)
        start = _start(run.history[:first], room_of(run.setting.model))
        messages = run.history[:start]
        if not messages and base.upto == reached:
            return
        digest = await asyncio.to_thread(extended, base, list(map(brief, messages)))
        digest, used = await self._written(run, base, digest, messages)
        turn = replace(run.turn, background=run.setting.background)
        run.turn = await self._journal.condensed(run.pen, turn, digest, used)
        run.setting = replace(run.setting, digest=digest)
        run.history = run.history[start:]

    async def _gap(self, run: Run, digest: Digest, upto: int) -> Digest:
        """Return a digest that goes on to a sequence, read page by page."""
        while digest.upto < upto:
            async with run.lease.transaction() as tx:
                page = await self._journal.rows.digests.briefs(
                    tx, run.session.id, after=digest.upto, upto=upto, limit=_PAGE
                )
            if not page:
                break
            digest = await asyncio.to_thread(extended, digest, page)
        return digest

    async def _written(
        self, run: Run, base: Digest, digest: Digest, messages: Sequence[Message]
    ) -> tuple[Digest, Attempt | None]:
        """Have a model write a digest, where the agent names one and that comes to something."""
        name = run.setting.agent.fields.context_policy.condensing_model
        if not name or not messages:
            return digest, None
        try:
            model = self._lines.catalogue.find(name)
            asked, upto = _asked(run.turn, model, base, messages)
            attempts = _affordable(run.budgets, model, asked, self._policy.patience.attempts)
            if not upto or not attempts:
                return digest, None
            patience = replace(self._policy.patience, attempts=attempts)
            spending = Spending(self._journal, run, self._policy.budget_seconds)
            speaker = Speaker(self._lines.of(run.lease.tenant), _Silent(), patience, spending)
            said = await speaker.speak([model], lambda _: asked, run.lease.fence)
        except _RULES_DO as error:
            _log.warning("turn %s condenses by rules: %r", run.turn.id, error)
            return digest, None
        used = said.begun.answered(said.answer)
        if not said.text.strip():
            return digest, used
        return replace(digest, text=said.text.strip(), text_upto=upto), used


def _asked(
    turn: Turn, model: Model, base: Digest, messages: Sequence[Message]
) -> tuple[ModelRequest, int]:
    """Return what a model is asked, and up to which sequence it is shown; 0: no message fits."""
    text, upto = _fitting(base, messages, room_of(model) - tokens(CONDENSE))
    request = ModelRequest(
        turn_id=turn.id,
        step=0,
        model=model.wire_name,
        system=CONDENSE,
        messages=(Said(Role.USER, text),),
        max_output_tokens=min(_ANSWER, output_of(model)),
        purpose=Purpose.CONDENSE,
    )
    return request, upto


def _affordable(budgets: Sequence[Budget], model: Model, asked: ModelRequest, most: int) -> int:
    """Return how often a model may be asked so that the turn can still answer.

    One call is left to it, and of tokens and money at least half.
    """
    call = Begun(asked, "", model, datetime.now(UTC), input_bound(asked)).bound("")
    for budget in budgets:
        caps, spent, held = budget.caps, budget.spent, budget.reserved
        for cap, used, wanted in (
            (caps.tokens, spent.tokens + held.tokens, call.tokens),
            (caps.cost, spent.cost + held.cost, call.cost or 0),
        ):
            if cap is not None and wanted:
                most = min(most, (cap - used) // (2 * wanted))
        if caps.calls is not None:
            most = min(most, caps.calls - spent.calls - held.calls - 1)
    return max(0, most)


@dataclass(frozen=True, slots=True)
class _Silent:
    """Nobody watches what a model writes of what was said."""

    def begin(self, step: int, generation: str) -> None:
        """Begin nothing."""

    def add(self, text: str) -> None:
        """Show nothing."""


def _start(before: Sequence[Message], room: int) -> int:
    """Return how many of the messages before a turn are condensed: whole turns, 0 for none."""
    sizes = cut_sizes(before)
    total = sum(sizes)
    if len(before) <= _MOST and total <= room * _FULL:
        return 0
    start = 0
    for place, message in enumerate(before):
        small = total <= room * _LEFT and len(before) - place <= _KEPT
        if message.role is Role.USER:
            start = place
            if small:
                return start
        total -= sizes[place]
    last = sum(sizes[start:])
    return start if last <= room * _FULL else len(before)


def _fitting(base: Digest, messages: Sequence[Message], room: int) -> tuple[str, int]:
    """Return what a model condenses, and the sequence that it reaches; 0: not one message fits.

    What was condensed before, then whole messages, as many as there is room for.
    """
    told = [retold(base, room // _BASE)] if base.messages else []
    left, upto = room - tokens(*told), 0
    for message in messages:
        parts = _told(message)
        left -= tokens(*parts)
        if left < 0:
            break
        told += parts
        upto = message.sequence
    return "\n\n".join(told), upto


def _told(message: Message) -> list[str]:
    if message.role is Role.TOOL:
        return [
            data(f"tool {one.tool}", one.text[:_LONGEST_RESULT]) for one in message.tool_results
        ]
    who = "User" if message.role is Role.USER else "Agent"
    calls = "".join(f"\n(called {call.tool})" for call in message.tool_calls)
    return [f"{who}: {message.text}{calls}"]
