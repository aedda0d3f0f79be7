"""BM25's weights, the fusion of the stages, neighbours, age."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_memory import ranking
from gathering_memory.models import Candidate, Ranked, ScopeSize
from gathering_memory.models_tuning import COMMON, HALF_LIFE_SECONDS, QUERY_TERMS

NOW = datetime(2026, 11, 22, tzinfo=UTC)
RAW = st.none() | st.floats(-1, 1e6)
PART = st.floats(0, 1)


def candidate(
    name: str, lexical: float | None = None, cosine: float | None = None, **fields: float
) -> Candidate:
    return Candidate(name, NOW, fields.get("importance", 1.0), "ses", lexical, cosine)


candidates = st.lists(
    st.builds(
        Candidate,
        id=st.uuids().map(str),
        created_at=st.datetimes(
            datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)  # noqa: DTZ001 - naive is what it takes
        ),
        importance=PART,
        session_id=st.sampled_from(["", "a", "b"]),
        lexical=RAW,
        cosine=RAW,
    ),
    max_size=20,
    unique_by=lambda found: found.id,
)  # fmt: skip


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_rarity_is_never_negative_and_falls_with_frequency(documents: int, containing: int) -> None:
    rare = ranking.rarity(documents, containing)
    assert rare > 0
    assert ranking.rarity(documents, containing + 1) <= rare


def test_rarity_is_that_of_bm25() -> None:
    assert ranking.rarity(100, 10) == pytest.approx(math.log(1 + (100 - 10 + 0.5) / (10 + 0.5)))


def test_rare_terms_are_looked_up_and_unknown_ones_left_out() -> None:
    size = ScopeSize(1_000, 10_000)
    counts = {f"t{n}": n for n in range(100)}
    weights = ranking.term_weights(size, counts)
    assert list(weights) == [f"t{n}" for n in range(1, QUERY_TERMS + 1)]
    assert list(weights.values()) == sorted(weights.values(), reverse=True)


def test_common_terms_are_looked_up_where_there_are_no_others() -> None:
    size = ScopeSize(50_000, 500_000)
    assert list(ranking.term_weights(size, {"the": COMMON, "anchor": 3})) == ["anchor"]
    assert list(ranking.term_weights(size, {"the": COMMON, "nowhere": 0})) == ["the"]
    assert ranking.term_weights(size, {}) == {}


def test_both_stages_add_up() -> None:
    found = ranking.fuse(
        [
            candidate("words", 8.0, 0.1),
            candidate("meaning", None, 0.5),
            candidate("both", 6.0, 0.4),
        ],
        with_vectors=True,
    )
    assert [hit.candidate.id for hit in found] == ["both", "words", "meaning"]
    assert found[0].relevance == pytest.approx(0.5 * 0.75 + 0.5 * 0.8)


def test_without_vectors_the_best_by_words_scores_1() -> None:
    found = ranking.fuse([candidate("a", 2.0), candidate("b", 1.0)], with_vectors=False)
    assert [hit.relevance for hit in found] == [1.0, 0.5]


@given(candidates, st.booleans())
def test_scores_lie_between_0_and_1(found: list[Candidate], with_vectors: bool) -> None:
    fused = ranking.fuse(found, with_vectors=with_vectors)
    beside = [(one.id, other) for one in found for other in found[:3] if one is not other]
    for hit in ranking.lend(fused, beside):
        scores = ranking.scores(hit, NOW)
        for part in (hit.relevance, scores.total, scores.lexical, scores.vector, scores.recency):
            assert 0 <= part <= 1 + 1e-12


@given(candidates)
def test_order_of_candidates_does_not_matter(found: list[Candidate]) -> None:
    fused = ranking.fuse(found, with_vectors=True)
    assert ranking.fuse(list(reversed(found)), with_vectors=True) == fused


@given(candidates)
def test_neighbours_raise_and_never_lower(found: list[Candidate]) -> None:
    fused = ranking.fuse(found, with_vectors=True)
    before = {hit.candidate.id: hit.relevance for hit in fused}
    beside = [(found[0].id, other) for other in found[1:]]
    for hit in ranking.lend(fused, beside):
        assert hit.relevance >= before[hit.candidate.id]


def test_neighbour_that_no_stage_found_comes_in() -> None:
    hit = Ranked(candidate("hit"), 1.0, 1.0, 1.0)
    found = ranking.lend([hit], [("hit", candidate("beside"))])
    assert [(one.candidate.id, one.relevance) for one in found] == [("hit", 1.0), ("beside", 0.6)]


def test_age_halves_recency_and_takes_a_tenth_of_the_score_at_most() -> None:
    month = NOW - timedelta(seconds=HALF_LIFE_SECONDS)
    assert ranking.recency(month, NOW) == pytest.approx(0.5)
    assert ranking.recency(NOW + timedelta(days=1), NOW) == 1.0
    ancient = Candidate("a", NOW - timedelta(days=36_500), 1.0, "")
    assert ranking.scores(Ranked(ancient, 1.0, 1.0, 1.0), NOW).total == pytest.approx(0.9)


def test_important_memories_come_before_trivial_ones() -> None:
    vital, trivial = candidate("vital", importance=1.0), candidate("trivial", importance=0.0)
    scored = [ranking.scores(Ranked(one, 0.8, 1, 1), NOW).total for one in (vital, trivial)]
    assert scored == [pytest.approx(0.8), pytest.approx(0.72)]


def test_of_equals_the_newest_comes_first() -> None:
    found = ranking.fuse([candidate("mem_1", 1.0), candidate("mem_2", 1.0)], with_vectors=False)
    assert [hit.candidate.id for hit in found] == ["mem_2", "mem_1"]
