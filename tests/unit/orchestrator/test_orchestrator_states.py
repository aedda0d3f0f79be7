"""The table of legal transitions is that of the contract."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from gathering.orchestrator.v1 import task_pb2
from gathering_mesh.postgres import Transaction
from gathering_orchestrator.errors import IllegalTransition
from gathering_orchestrator.tasks.models_states import (
    AT_WORK,
    END_STATES,
    LEGAL,
    OfferState,
    TaskState,
    Verdict,
)
from gathering_orchestrator.tasks.store import PostgresTasks
from tests.unit.orchestrator.builders import task

S = TaskState
ILLEGAL = [(a, b) for a in S for b in S if a is not b and b not in LEGAL[a]]


def names(enum: Any, prefix: str) -> set[str]:
    return {name.removeprefix(prefix) for name in enum.keys()} - {"UNSPECIFIED"}  # noqa: SIM118 - protobuf's


def test_states_are_those_of_the_contract() -> None:
    assert set(TaskState) == names(task_pb2.TaskState, "TASK_STATE_")
    assert set(OfferState) == names(task_pb2.OfferState, "OFFER_STATE_")
    assert set(Verdict) == names(task_pb2.ReviewVerdict, "REVIEW_VERDICT_")


def test_every_state_but_the_ends_can_be_cancelled_and_the_ends_lead_nowhere() -> None:
    assert {S.COMPLETED, S.FAILED, S.CANCELLED} == END_STATES
    for state, following in LEGAL.items():
        assert (S.CANCELLED in following) == (state not in END_STATES)
        assert state not in following


def test_every_state_is_reached_from_the_first_and_leads_to_an_end() -> None:
    assert reachable(S.PENDING) == set(S)
    for state in set(S) - END_STATES:
        assert reachable(state) & END_STATES == END_STATES


def test_nobody_works_on_a_task_that_nobody_accepted() -> None:
    for state, following in LEGAL.items():
        if state in {S.PENDING, S.OFFERED}:
            assert following & AT_WORK <= {S.ACCEPTED}


@pytest.mark.parametrize(("before", "after"), ILLEGAL)
def test_illegal_transition_is_refused_before_the_database_is_asked(
    before: TaskState, after: TaskState
) -> None:
    here = task(state=before)
    with pytest.raises(IllegalTransition) as refusal:
        no_transaction = cast("Transaction", None)
        asyncio.run(PostgresTasks().save(no_transaction, here, replace(here, state=after)))
    assert refusal.value.metadata == {"state": before}


def reachable(state: TaskState) -> set[TaskState]:
    found, ahead = {state}, [state]
    while ahead:
        new = LEGAL[ahead.pop()] - found
        found |= new
        ahead += new
    return found
