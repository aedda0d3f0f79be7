"""When a turn is worth another attempt."""

from __future__ import annotations

from itertools import count

import pytest

from gathering_agent.turns.policy import Policy, verdict
from gathering_mesh.errors import DomainError, Internal, InvalidArgument, Unavailable
from gathering_mesh.work import WorkSettings

_OUTAGE = 600.0  # seconds that a service may be away


def test_turn_outlives_a_service_that_is_away_for_ten_minutes_and_lost_replicas() -> None:
    work, policy = WorkSettings(), Policy()
    waited, lost = 0.0, 5
    for attempt in count(1 + lost):
        if verdict(Unavailable("away"), attempt, policy) is not None:
            break
        waited += min(work.retry_most, work.retry_first * 2 ** (attempt - 1))
    assert waited >= _OUTAGE


@pytest.mark.parametrize("error", [Unavailable("away"), Internal("broken")])
def test_turn_ends_at_last_where_a_service_never_comes_back(error: DomainError) -> None:
    policy = Policy()
    assert verdict(error, policy.attempts - 1, policy) is None
    assert verdict(error, policy.attempts, policy) is error


def test_turn_that_a_service_refuses_ends_at_once() -> None:
    error = InvalidArgument("no")
    assert verdict(error, 1, Policy()) is error


def test_fault_of_our_own_is_tried_a_few_times_and_not_shown() -> None:
    policy = Policy()
    assert verdict(RuntimeError("secret"), 1, policy) is None
    end = verdict(RuntimeError("secret"), policy.attempts_at_faults, policy)
    assert end is not None
    assert "secret" not in end.message
