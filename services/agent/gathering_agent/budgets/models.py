"""Budgets: what model calls may use at each level, and what they have used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from gathering_agent.errors import Refusal


class Level(StrEnum):
    """What a budget bounds."""

    TENANT = "tenant"
    TASK = "task"
    AGENT = "agent"
    SESSION = "session"
    TURN = "turn"


class Cap(StrEnum):
    """What a budget caps."""

    TOKENS = "tokens"
    COST = "cost"
    MODEL_CALLS = "model_calls"
    WALL_TIME = "wall_time"


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of a budget, in tokens, micro-USD, calls and time since it was made; None: none."""

    tokens: int | None = None
    cost: int | None = None
    calls: int | None = None
    wall_time: timedelta | None = None


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of what budgets count; the cost in micro-USD."""

    tokens: int = 0
    cost: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """What a budget bounds; the id of a tenant's is empty."""

    level: Level
    id: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget; `reserved` is what calls in flight may use at most.

    `owner_user_id` may see it, everybody if that is empty. `by_admin`: who set it last was one.
    """

    id: str
    subject: Subject
    parent_id: str
    owner_user_id: str
    by_admin: bool
    caps: Caps
    spent: Amount
    reserved: Amount
    version: int
    create_time: datetime
    update_time: datetime

    @property
    def deadline(self) -> datetime | None:
        """Return when its wall time is over."""
        return None if self.caps.wall_time is None else self.create_time + self.caps.wall_time

    @property
    def etag(self) -> str:
        """Return what changes with the caps."""
        return f"{self.id[-8:]}-{self.version}"

    def used_up(self, now: datetime) -> Refusal | None:
        """Return the refusal of every call there could be, None if some may go through."""
        caps, spent = self.caps, self.spent
        for cap, limit, used in (
            (Cap.TOKENS, caps.tokens, spent.tokens),
            (Cap.MODEL_CALLS, caps.calls, spent.calls),
        ):
            if limit is not None and used >= limit:
                return self.refusal(cap, limit, max(0, limit - used), 1)
        if caps.cost is not None and spent.cost > caps.cost:  # a call may cost nothing
            return self.refusal(Cap.COST, caps.cost, 0, 1)
        if self.deadline is not None and now >= self.deadline:
            return self.late()
        return None

    def late(self) -> Refusal:
        """Return the refusal of a call after the wall time."""
        seconds = int((self.caps.wall_time or timedelta()).total_seconds())
        return self.refusal(Cap.WALL_TIME, seconds, 0, 0)

    def refusal(self, cap: Cap, limit: int, left: int, wanted: int) -> Refusal:
        """Return the refusal of a call by one of the caps."""
        subject = self.subject
        return Refusal(self.id, subject.level, subject.id, cap, limit, left, wanted)


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """What is set: caps for a subject, and of a task the one on whose budget it draws as well."""

    subject: Subject
    caps: Caps
    owner_user_id: str = ""
    by_admin: bool = False
    parent_task_id: str = ""


@dataclass(frozen=True, slots=True)
class BudgetFilter:
    """Which budgets to list; empty: all."""

    level: Level | None = None
    subject_id: str = ""
    seen_by: str = ""


def first_late(budgets: Iterable[Budget]) -> Budget | None:
    """Return the budget whose wall time is over first, None where none is bounded."""
    timed = [(one.deadline, one.id, one) for one in budgets if one.deadline is not None]
    return min(timed)[2] if timed else None


@dataclass(frozen=True, slots=True)
class Granted:
    """A reservation: the answer may have so many tokens."""

    output_tokens: int


@dataclass(frozen=True, slots=True)
class Denied:
    """A refused reservation; `passes`: only calls that are in flight stand in the way."""

    refusal: Refusal
    passes: bool
