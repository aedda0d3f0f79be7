"""Whom to ask first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gathering_orchestrator.circles.models import Member, Metrics
from gathering_orchestrator.tasks.models_ranking import (
    REVIEW_WEIGHTS,
    WEIGHTS,
    rank,
    rank_reviewers,
)
from tests.unit.orchestrator.builders import agent_id, member

NAMES = ("python", "review", "writing", "sql")
shares = st.floats(0, 1, allow_nan=False)


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    reviews = draw(st.integers(0, 50))
    return Metrics(
        open_tasks=draw(st.integers(0, 5)),
        completed=draw(st.integers(0, 50)),
        reviews=reviews,
        approved=draw(st.integers(0, reviews)),
        score_sum=draw(shares) * reviews,
    )


@st.composite
def teams(draw: st.DrawFn) -> list[Member]:
    return [
        member(
            number,
            draw(metrics()),
            competences=draw(st.dictionaries(st.sampled_from(NAMES), shares)),
            limit=draw(st.integers(1, 5)),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


wanted = st.lists(st.sampled_from(NAMES), max_size=4)


def test_weights_add_up_to_exactly_one() -> None:
    assert sum(WEIGHTS.values()) == 1
    assert sum(REVIEW_WEIGHTS.values()) == 1


@given(teams(), wanted)
def test_score_is_the_sum_of_its_parts_and_between_zero_and_one(
    team: list[Member], required: list[str]
) -> None:
    for ranked in rank(team, required):
        assert 0 <= ranked.score <= 1
        assert all(0 <= part.value <= 1 for part in ranked.parts)
        total = sum(part.weight * part.value for part in ranked.parts)
        assert abs(total - ranked.score) < 1e-6
        assert [part.name for part in ranked.parts] == list(WEIGHTS)


@given(teams(), wanted, st.randoms())
def test_order_does_not_depend_on_the_order_of_members(
    team: list[Member], required: list[str], random: st.DataObject
) -> None:
    shuffled = list(team)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert rank(team, required) == rank(shuffled, required)


@given(teams(), wanted)
def test_only_members_with_a_required_competence_are_candidates(
    team: list[Member], required: list[str]
) -> None:
    candidates = {ranked.member.agent.agent_id for ranked in rank(team, required)}
    for one in team:
        shares_one = bool({c.name for c in one.agent.competences} & set(required))
        assert (one.agent.agent_id in candidates) == (shares_one or not required)


@given(teams(), wanted)
def test_reviewers_are_all_members_the_competent_ones_first(
    team: list[Member], required: list[str]
) -> None:
    ranked = [one.member.agent.agent_id for one in rank_reviewers(team, required)]
    able = {one.member.agent.agent_id for one in rank(team, required)}
    assert sorted(ranked) == sorted(one.agent.agent_id for one in team)
    assert set(ranked[: len(able)]) == able


def test_best_match_is_first_even_when_busy_and_the_other_free() -> None:
    busy = member(1, Metrics(open_tasks=1), competences={"python": 0.9, "review": 0.9})
    free = member(2, competences={"python": 0.9})
    assert first([free, busy], "python", "review") == agent_id(1)


def test_stronger_member_is_first_even_when_busy() -> None:
    busy = member(1, Metrics(open_tasks=1), competences={"python": 0.95})
    free = member(2, competences={"python": 0.7})
    assert first([free, busy], "python") == agent_id(1)


def test_of_equals_the_one_with_room_is_first() -> None:
    busy = member(1, Metrics(open_tasks=1), competences={"python": 0.9})
    free = member(2, competences={"python": 0.9})
    assert first([busy, free], "python") == agent_id(2)


def test_of_equals_in_all_the_older_agent_is_first() -> None:
    assert first([member(2), member(1)]) == agent_id(1)


def test_approved_work_moves_a_member_up() -> None:
    praised = member(2, Metrics(reviews=4, approved=4, score_sum=4.0))
    criticised = member(1, Metrics(reviews=4, approved=1, score_sum=2.0))
    assert first([criticised, praised]) == agent_id(2)


def test_competences_are_compared_without_case() -> None:
    assert first([member(1, competences={"Python": 0.9})], "PYTHON") == agent_id(1)


def first(team: list[Member], *required: str) -> str:
    return rank(team, required)[0].member.agent.agent_id
