"""What a reviewer submitted: a judgement, or why it is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_orchestrator.tasks.models import Artifact
from gathering_orchestrator.tasks.models_states import Verdict
from gathering_orchestrator.tasks.verdicts import (
    UnusableResult,
    changed_files_note,
    judgement,
)

CRITERIA = ("Names files", "Names lines")


def result(verdict: str = "approved", *met: bool, **fields: Any) -> dict[str, Any]:
    criteria = [
        {"criterion": criterion, "met": one, "evidence": "seen"}
        for criterion, one in zip(CRITERIA, met or (True, True), strict=False)
    ]
    return {"verdict": verdict, "comment": "fine", "criteria": criteria, **fields}


def test_complete_result_is_a_judgement() -> None:
    found = judgement(result("changes_requested", True, False), CRITERIA)
    assert found.verdict is Verdict.CHANGES_REQUESTED
    assert found.score == 0.5
    assert [one.met for one in found.criteria] == [True, False]


@pytest.mark.parametrize("said", ["approved", "APPROVED", "Approved "])
def test_verdict_is_read_whatever_its_case(said: str) -> None:
    assert judgement(result(said), CRITERIA).verdict is Verdict.APPROVED


def test_criteria_are_matched_by_text_whatever_their_order() -> None:
    swapped = result("changes_requested", True, False)
    swapped["criteria"].reverse()
    assert [one.met for one in judgement(swapped, CRITERIA).criteria] == [True, False]


def test_reworded_criteria_are_matched_by_place_and_kept_in_the_tasks_words() -> None:
    given_ = result("approved")
    for number, one in enumerate(given_["criteria"], 1):
        one["criterion"] = f"Criterion {number}"
    assert [one.criterion for one in judgement(given_, CRITERIA).criteria] == list(CRITERIA)


@pytest.mark.parametrize(
    ("submitted", "why"),
    [
        (None, "nothing was submitted"),
        ({}, "verdict is none of"),
        (result("maybe"), "verdict is none of"),
        (result("approved", True, False), "although a criterion is not met: Names lines"),
        (result("approved", True), "1 of 2 criteria"),
        (result(criteria="all"), "criteria is no list"),
        (result(criteria=[{"criterion": "a"}, {"met": True}]), "does not say whether it is met"),
        (result(comment=7), "comment is no text"),
    ],
)
def test_incomplete_result_says_what_is_missing(submitted: dict[str, Any] | None, why: str) -> None:
    with pytest.raises(UnusableResult, match=why):
        judgement(submitted, CRITERIA)


def test_without_criteria_the_verdict_is_the_score() -> None:
    assert judgement({"verdict": "approved"}, ()).score == 1.0
    assert judgement({"verdict": "rejected"}, ()).score == 0.0


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "verdict": st.sampled_from(["approved", "rejected", "changes_requested"]) | json_values,
            "comment": json_values,
            "criteria": json_values,
        },
    )
)
def test_whatever_is_submitted_is_judged_or_refused(submitted: dict[str, Any]) -> None:
    try:
        found = judgement(submitted, CRITERIA)
    except UnusableResult:
        return
    assert 0 <= found.score <= 1
    assert len(found.criteria) == len(CRITERIA)


def test_changed_and_missing_files_are_named_with_their_hashes() -> None:
    old = Artifact("a.md", "a" * 64, 1), Artifact("b.md", "b" * 64, 1)
    note = changed_files_note([(old[0], "c" * 64), (old[1], None)])
    assert "a.md" in note
    assert "c" * 64 in note
    assert "now gone" in note
    assert not changed_files_note([])
