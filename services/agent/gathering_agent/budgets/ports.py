"""What the verbs need of the rows that calls of models are counted in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gathering_agent.budgets.models import Budget, BudgetFilter, BudgetTerms, Denied, Granted
from gathering_agent.budgets.models_usage import After, Period, UsageQuery, UsageRow
from gathering_agent.models import Turn
from gathering_agent.providers.models_calls import Attempt, Begun, Place, RecordedAttempt
from gathering_mesh.postgres import Transaction


class AttemptRows(Protocol):
    """Calls of models, and what they book on budgets."""

    async def reserve(
        self, tx: Transaction, turn: Turn, begun: Begun, budgets: Sequence[str], least: int
    ) -> Granted | Denied:
        """Book the worst case of a call on budgets, on all or on none, and record the attempt.

        The answer may have fewer tokens than was asked for where less is left, but not fewer than
        `least`. Raises ModelPriceUnknown where money is capped.
        """

    async def settle(self, tx: Transaction, turn: Turn, attempt: Attempt) -> None:
        """Record what an attempt used, once, and book it; the turn counts what came to nothing."""

    async def settle_lost(self, tx: Transaction, turn_id: str) -> None:
        """End the attempts of a turn that nobody will end any more, at their bounds."""


class BudgetRows(Protocol):
    """The budgets of the transaction's tenant."""

    async def chain(self, tx: Transaction, names: Sequence[str]) -> list[Budget]:
        """Return the budgets that bound a turn of an agent, session, turn and task, by id.

        Those of the tenant and of the tasks above are among them.
        """

    async def put(self, tx: Transaction, terms: BudgetTerms) -> Budget:
        """Set the caps of a subject, whose budget is made where there is none; BadSubject."""

    async def get(
        self, tx: Transaction, budget_id: str, *, lock: bool = False, deleted: bool = False
    ) -> Budget:
        """Return a budget, locked until the end of the transaction if asked; BudgetNotFound.

        `deleted`: also one that was deleted.
        """

    async def page(
        self, tx: Transaction, which: BudgetFilter, *, before: str, limit: int
    ) -> list[Budget]:
        """Return budgets, newest first, with ids below `before` (empty: all)."""

    async def remove(self, tx: Transaction, budget_id: str) -> bool:
        """Delete a budget unless another draws on it; tell whether it was deleted."""


class UsageRows(Protocol):
    """What calls that have ended used."""

    async def page(
        self, tx: Transaction, query: UsageQuery, period: Period, *, after: After | None, limit: int
    ) -> list[UsageRow]:
        """Return rows in order of time, then of names."""

    async def attempts(
        self, tx: Transaction, turn_id: str, *, after: Place | None, limit: int
    ) -> list[RecordedAttempt]:
        """Return the attempts of a turn behind a place, in the order in which they began."""
