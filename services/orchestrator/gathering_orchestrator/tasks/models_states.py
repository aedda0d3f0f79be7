"""The life of a task, an offer and a turn: the one table of legal transitions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class TaskState(StrEnum):
    """Where a task is in its life."""

    PENDING = "PENDING"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    IN_REVIEW = "IN_REVIEW"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ESCALATED = "ESCALATED"


_S = TaskState
_STOP = {_S.FAILED, _S.CANCELLED}  # FAILED: a human rejects, or the owner's permission was revoked

# From the state to those that may follow. Nothing else changes a task's state.
LEGAL: Mapping[TaskState, frozenset[TaskState]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.OFFERED, _S.ESCALATED} | _STOP),
        _S.OFFERED: frozenset({_S.PENDING, _S.ACCEPTED} | _STOP),
        _S.ACCEPTED: frozenset({_S.RUNNING, _S.ESCALATED} | _STOP),
        _S.RUNNING: frozenset({_S.IN_REVIEW, _S.COMPLETED, _S.ESCALATED} | _STOP),
        _S.IN_REVIEW: frozenset({_S.RUNNING, _S.COMPLETED, _S.ESCALATED} | _STOP),
        _S.ESCALATED: frozenset({_S.PENDING, _S.RUNNING, _S.COMPLETED} | _STOP),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)
END_STATES = frozenset(state for state, following in LEGAL.items() if not following)
# An agent that has one of these is at work on it, and counts it against its own limit.
AT_WORK = frozenset({_S.ACCEPTED, _S.RUNNING, _S.IN_REVIEW})


class OfferState(StrEnum):
    """Where an offer is in its life: OPEN, then one of the others for good."""

    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"
    WITHDRAWN = "WITHDRAWN"


class Verdict(StrEnum):
    """What a review decides."""

    APPROVED = "APPROVED"
    CHANGES_REQUESTED = "CHANGES_REQUESTED"
    REJECTED = "REJECTED"


class TurnOutcome(StrEnum):
    """How a turn at the agent service ended."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Escalation(StrEnum):
    """Why a task waits for a human."""

    NO_CANDIDATE = "no_candidate"
    NO_REVIEWER = "no_reviewer"
    ROUNDS_EXHAUSTED = "rounds_exhausted"
    REJECTED = "rejected"
    WORK_FAILED = "work_failed"


# Reasons of a declined offer, as the contract names them.
AT_CAPACITY = "at_capacity"  # time may cure it, so the agent is asked again
ARCHIVED = "archived"
OTHER = "other"
