"""Ask a model what is worth remembering: it has to quote the user, and what it says is checked."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gathering_agent.agents.models import AgentFields, MemoryPolicy
from gathering_agent.budgets.models import Budget
from gathering_agent.budgets.spending import Spending
from gathering_agent.models import JsonObject, JsonValue, Role, Turn
from gathering_agent.providers.lines import Lines
from gathering_agent.providers.models_calls import Attempt
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import ModelRequest, Purpose, Said
from gathering_agent.providers.speaking import Patience, Speaker, Spoken
from gathering_agent.remembering.hygiene import gives_orders, is_fit
from gathering_agent.remembering.models import Finding
from gathering_agent.remembering.prompt import FINDINGS_SCHEMA, SYSTEM
from gathering_agent.remembering.rules import chosen
from gathering_agent.streams.live import Channel
from gathering_agent.turns.journal import Journal, Pen
from gathering_agent.turns.own_tools import SUBMIT, submit_spec
from gathering_agent.turns.policy import Policy
from gathering_agent.turns.result_schema import problems
from gathering_mesh.errors import DomainError

_log = logging.getLogger(__name__)
_UNASKED = "offline"  # the provider whose model knows no language
_OUTPUT = 1_024  # tokens
_LONGEST = 20_000  # characters of what the user said
_SECONDS = 60.0  # nobody waits for what is found, but it shall not hold a place for long
_LEAST_QUOTED = 2  # words


@dataclass(slots=True)
class _Bound:
    """A turn that has ended, as the ledger of one more call wants it."""

    pen: Pen
    turn: Turn
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model found, and the attempt that is to be settled with it."""

    findings: list[Finding]
    used: Attempt


class Asking:
    """One model call for a turn, reserved and recorded like those of its steps."""

    def __init__(self, journal: Journal, lines: Lines, policy: Policy) -> None:
        self._journal = journal
        self._lines = lines
        self._budget_seconds = policy.budget_seconds
        given = policy.patience.call_seconds
        self._patience = Patience(1, call_seconds=min(_SECONDS, given), hasty=given > _SECONDS)

    async def ask(
        self, pen: Pen, agent: AgentFields, turn: Turn, step: int, asked: str
    ) -> Asked | None:
        """Return what the agent's model finds; None where it cannot be asked or did not answer."""
        if gives_orders(asked):
            return None
        try:
            said = await self._speak(pen, agent, turn, step, asked)
        except DomainError as error:
            _log.info("no model says what to remember of turn %s: %s", turn.id, error.reason)
            return None
        if said is None:
            return None
        found = list(_found(said, asked[:_LONGEST]))
        policy: MemoryPolicy = agent.memory_policy
        best = chosen(found, threshold=policy.least, limit=policy.most)
        return Asked(best, said.begun.answered(said.answer))

    async def _speak(
        self, pen: Pen, agent: AgentFields, turn: Turn, step: int, asked: str
    ) -> Spoken | None:
        chain = self._lines.catalogue.chain(agent, turn.model)
        chain = [model for model in chain if model.provider != _UNASKED]
        if not chain:
            return None
        async with pen.lease.transaction() as tx:
            bound = _Bound(pen, turn, await self._journal.budgets(tx, turn))
        spending = Spending(self._journal, bound, self._budget_seconds)
        lines = self._lines.of(pen.lease.tenant)
        speaker = Speaker(lines, Channel(lambda: None, lambda _: None), self._patience, spending)

        def ask(model: Model) -> ModelRequest:
            return ModelRequest(
                turn_id=turn.id,
                step=step,
                model=model.wire_name,
                system=SYSTEM,
                messages=(Said(Role.USER, f"The message:\n\n{asked[:_LONGEST]}"),),
                tools=(submit_spec(FINDINGS_SCHEMA),),
                max_output_tokens=min(_OUTPUT, model.max_output_tokens),
                result_schema=FINDINGS_SCHEMA,
                purpose=Purpose.REMEMBER,
            )

        return await speaker.speak(chain, ask, pen.lease.fence)


def _found(said: Spoken, asked: str) -> Iterator[Finding]:
    spoken = _plain(asked)
    for call in said.answer.tool_calls:
        if (
            call.tool == SUBMIT
            and not call.problem
            and not problems(FINDINGS_SCHEMA, call.arguments)
        ):
            for one in _list(call.arguments.get("memories")):
                finding = _finding(one, spoken)
                if finding is not None:
                    yield finding


def _finding(told: JsonObject, spoken: str) -> Finding | None:
    """Return a finding whose quotation is true; None for what is made up or unfit."""
    text, quote = " ".join(str(told["text"]).split()), _plain(str(told["quote"]))
    true = len(quote.split()) >= _LEAST_QUOTED and quote in spoken and not quote.endswith("?")
    if not (text and true and is_fit(text) and is_fit(quote)):
        return None
    about = " ".join(str(told.get("about", "")).casefold().split())
    importance = float(str(told["importance"]))
    return Finding(text, text, str(told["type"]), importance, "model", about)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _list(value: JsonValue) -> Sequence[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
