"""How patient a turn is, and when it fails for good."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_agent.errors import Overdue
from gathering_agent.providers.speaking import Patience
from gathering_agent.turns.repeating import Tolerance
from gathering_mesh.errors import (
    Aborted,
    DeadlineExceeded,
    DomainError,
    Internal,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a turn is. Times in seconds."""

    patience: Patience = Patience()  # noqa: RUF009 (frozen)
    turn_seconds: float = 7200.0
    approval_seconds: float = 3.0  # between two looks whether a person has decided
    # Of the whole turn, on failures of services and replicas. With the pauses between, a service
    # may be away for ten minutes, also when replicas were lost in between: each costs an attempt.
    attempts: int = 20
    attempts_at_faults: int = 3  # of our own
    budget_seconds: float = 30.0  # for calls in flight that hold what a call needs of a budget
    recall_seconds: float = 5.0
    tolerance: Tolerance = Tolerance()  # noqa: RUF009 (frozen)


# What trying the whole turn again does not change: it was tried, or somebody has to act.
_OWN = (
    "MODEL_FAILED",
    "MODEL_REFUSED",
    "MODEL_CONTEXT_EXCEEDED",
    "MODEL_NOT_CONFIGURED",
    "MODEL_UNAVAILABLE",
    "MODEL_PRICE_UNKNOWN",
    "BUDGET_EXHAUSTED",
)


def verdict(error: Exception, attempt: int, policy: Policy) -> DomainError | None:
    """Return why a turn fails, None where the whole turn is worth another attempt."""
    if not isinstance(error, DomainError):
        return Internal("internal error") if attempt >= policy.attempts_at_faults else None
    own = error.reason in _OWN
    if own or isinstance(error, Overdue) or not _passes(error):
        return error
    return error if attempt >= policy.attempts else None


def _passes(error: DomainError) -> bool:
    """Tell whether it may pass by itself: a token that ended on its way is replaced."""
    if isinstance(error, Unauthenticated):
        return error.reason != "CREDENTIALS_REVOKED"
    return isinstance(
        error, Unavailable | DeadlineExceeded | Aborted | ResourceExhausted | Internal
    )
