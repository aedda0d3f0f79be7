"""One attempt at a model call: what it may use, and what it used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import Answer, ModelRequest, Purpose


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one model call used; `error_reason` says why it came to nothing, if it did.

    `estimated`: nobody told, so that it is the bound. `cost` in micro-USD, None where a price is
    not known. `reserved`: it was booked on budgets. `unsent`: it provably never left.
    """

    step: int
    generation: str
    model: str
    start_time: datetime
    input_tokens: int
    output_tokens: int
    cost: int | None
    error_reason: str = ""
    estimated: bool = False
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reserved: bool = False
    unsent: bool = False
    purpose: Purpose = Purpose.ANSWER

    @property
    def tokens(self) -> int:
        """Return what was read and written."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Begun:
    """A model call that may be made now; its input has at most `input_bound` tokens."""

    request: ModelRequest
    generation: str
    model: Model
    start_time: datetime
    input_bound: int
    reserved: bool = False

    def bound(self, error_reason: str) -> Attempt:
        """Return the attempt as one that was lost: all that it may have used."""
        output = self.request.max_output_tokens
        cost = self.model.prices.most(self.input_bound, output)
        return self._attempt(self.input_bound, output, cost, error_reason, estimated=True)

    def nothing(self, error_reason: str, *, unsent: bool) -> Attempt:
        """Return the attempt as one that used nothing."""
        return self._attempt(0, 0, 0, error_reason, unsent=unsent)

    def answered(self, answer: Answer, error_reason: str = "") -> Attempt:
        """Return the attempt as its provider counted it; its bound where that tells nothing."""
        if not answer.counted:
            return self.bound(error_reason)
        cached, written = answer.cached_input_tokens, answer.cache_write_tokens
        cost = self.model.prices.cost(answer.input_tokens, answer.output_tokens, cached, written)
        return self._attempt(
            answer.input_tokens,
            answer.output_tokens,
            cost,
            error_reason,
            cached_tokens=cached,
            cache_write_tokens=written,
        )

    def _attempt(
        self, read: int, written: int, cost: int | None, error_reason: str, **more: int
    ) -> Attempt:
        return Attempt(
            self.request.step,
            self.generation,
            self.model.name,
            self.start_time,
            read,
            written,
            cost,
            error_reason,
            reserved=self.reserved,
            purpose=self.request.purpose,
            **more,  # type: ignore[arg-type]  # flags and counts by their names
        )


class AttemptState(StrEnum):
    """What came of an attempt."""

    IN_FLIGHT = "in_flight"
    ANSWERED = "answered"
    FAILED = "failed"
    SKIPPED = "skipped"


class Place(NamedTuple):
    """Where an attempt stands among those of its turn: they are in order of these."""

    step: int
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """An attempt as it is stored, which may be in flight. Costs as in `Attempt`."""

    turn_id: str
    place: Place
    model: str
    state: AttemptState
    error_reason: str
    start_time: datetime | None
    end_time: datetime | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: int | None
    estimated: bool
    purpose: Purpose = Purpose.ANSWER
