"""Rank what was found: BM25's weights, the fusion of the stages, neighbours, age and importance.

Pure arithmetic; the store counts and fetches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from gathering_memory.models import Candidate, Ranked, ScopeSize, Scores
from gathering_memory.models_tuning import (
    COMMON,
    HALF_LIFE_SECONDS,
    IMPORTANCE_WEIGHT,
    LENT,
    LEXICAL_WEIGHT,
    QUERY_TERMS,
    RECENCY_WEIGHT,
    VECTOR_WEIGHT,
)


def rarity(documents: int, containing: int) -> float:
    """Return the inverse document frequency of a term, in the form of BM25 that stays positive."""
    containing = min(containing, documents)
    return math.log1p((documents - containing + 0.5) / (containing + 0.5))


def term_weights(size: ScopeSize, containing: Mapping[str, int]) -> dict[str, float]:
    """Return the weights of the query's terms that are worth looking up, rarest first.

    Args:
        size: of the searched scopes.
        containing: the number of memories with each term there, counted up to COMMON.

    """
    found = {term: count for term, count in containing.items() if count}
    rare = {term: count for term, count in found.items() if count < COMMON} or found
    chosen = sorted(rare, key=lambda term: (rare[term], term))[:QUERY_TERMS]
    return {term: rarity(size.document_count, rare[term]) for term in chosen}


def recency(created_at: datetime, now: datetime) -> float:
    """Return the weight of an age: 1 for new, a half after each half-life."""
    age = max(0.0, (now - created_at).total_seconds())
    return math.exp2(-age / HALF_LIFE_SECONDS)


def fuse(candidates: Iterable[Candidate], *, with_vectors: bool) -> list[Ranked]:
    """Return candidates with the sum of their normalised scores as relevance, best first.

    Each stage is divided by its best score; nothing and less than nothing are 0. Without vectors
    the words alone decide.
    """
    found = list(candidates)
    lexical = _normalised([candidate.lexical for candidate in found])
    vector = _normalised([candidate.cosine for candidate in found])
    weight = VECTOR_WEIGHT if with_vectors else 0.0
    total = LEXICAL_WEIGHT + weight
    ranked = [
        Ranked(c, (LEXICAL_WEIGHT * by_words + weight * by_meaning) / total, by_words, by_meaning)
        for c, by_words, by_meaning in zip(found, lexical, vector, strict=True)
    ]
    return best_first(ranked)


def lend(ranked: Sequence[Ranked], beside: Iterable[tuple[str, Candidate]]) -> list[Ranked]:
    """Return the hits and their neighbours, each raised by the best hit beside it.

    Args:
        ranked: the hits.
        beside: ids of hits, each with a candidate next to it in its session.

    """
    relevance = {hit.candidate.id: hit.relevance for hit in ranked}
    everything = {hit.candidate.id: hit for hit in ranked}
    lent: dict[str, float] = {}
    for lender, candidate in beside:
        everything.setdefault(candidate.id, Ranked(candidate, 0.0, 0.0, 0.0))
        lent[candidate.id] = max(lent.get(candidate.id, 0.0), relevance.get(lender, 0.0))
    return best_first(
        replace(hit, relevance=_raised(hit.relevance, LENT * lent.get(hit.candidate.id, 0.0)))
        for hit in everything.values()
    )


def scores(hit: Ranked, now: datetime) -> Scores:
    """Return what callers are told of a hit."""
    fresh = recency(hit.candidate.created_at, now)
    loss = RECENCY_WEIGHT * (1.0 - fresh) + IMPORTANCE_WEIGHT * (1.0 - hit.candidate.importance)
    return Scores(hit.relevance * (1.0 - loss), hit.lexical, hit.vector, fresh)


def best_first(ranked: Iterable[Ranked]) -> list[Ranked]:
    """Return hits by relevance; of equals, the newest first."""
    newest_first = sorted(ranked, key=lambda hit: hit.candidate.id, reverse=True)
    return sorted(newest_first, key=lambda hit: hit.relevance, reverse=True)


def _normalised(raw: Sequence[float | None]) -> list[float]:
    known = [max(0.0, score or 0.0) for score in raw]
    best = max(known, default=0.0)
    return [score / best if best else 0.0 for score in known]


def _raised(score: float, by: float) -> float:
    """Add a part without leaving 0 to 1: what is missing to 1 shrinks by that part."""
    return score + by * (1.0 - score)
