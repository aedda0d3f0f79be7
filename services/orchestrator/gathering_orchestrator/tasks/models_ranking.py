"""Whom to ask first: pure arithmetic on what the circle knows, explained part by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from gathering_orchestrator.circles.models import Competence, Member
from gathering_orchestrator.tasks.models import ScorePart

# The parts of a score and their weights; they add up to 1.
MATCH = Fraction(45, 100)  # what share of what is asked for it can do: without it, no good work
STRENGTH = Fraction(28, 100)  # how good it is at those: tells apart those who can
APPROVAL_RATE = Fraction(15, 100)  # how often peers took its work as it was: earned, so it counts
QUALITY = Fraction(10, 100)  # how much of the criteria its work met: finer, and partly the same
# Whether it has room: the agent is asked and knows best, so this only tells apart those who fit
# about as well. The one who fits best is asked first even when busy, and declines if it must.
AVAILABILITY = Fraction(2, 100)
WEIGHTS: Mapping[str, Fraction] = MappingProxyType(
    {
        "match": MATCH,
        "strength": STRENGTH,
        "availability": AVAILABILITY,
        "approval_rate": APPROVAL_RATE,
        "quality": QUALITY,
    }
)
# A reviewer who fits and has room: reviews hold up finished work, so room counts more than above.
REVIEW_WEIGHTS: Mapping[str, Fraction] = MappingProxyType(
    {
        "match": Fraction(50, 100),
        "availability": Fraction(25, 100),
        "quality": Fraction(25, 100),
    }
)
_DIGITS = 6  # of a score; what lies below is noise of floating point, and must not break ties


@dataclass(frozen=True, slots=True)
class Ranked:
    """A member with its score from 0 to 1 and what that is made of."""

    member: Member
    score: float
    parts: tuple[ScorePart, ...]


def competent(member: Member, required: Iterable[str]) -> bool:
    """Tell whether a member has one of the required competences, or none is required."""
    wanted = _names(required)
    return not wanted or bool(wanted & {one.name.casefold() for one in member.agent.competences})


def rank(members: Iterable[Member], required: Iterable[str]) -> list[Ranked]:
    """Return members as candidates for a task, best first; those without competence are left out.

    Equal scores: fewer open tasks first, then the agent that was created first.
    """
    wanted = tuple(required)
    return _sorted(members, wanted, WEIGHTS)


def rank_reviewers(members: Iterable[Member], required: Iterable[str]) -> list[Ranked]:
    """Return members as reviewers, best first: those with a competence before those without."""
    wanted = tuple(required)
    everybody = tuple(members)
    able = [member for member in everybody if competent(member, wanted)]
    others = [member for member in everybody if not competent(member, wanted)]
    return _sorted(able, wanted, REVIEW_WEIGHTS) + _sorted(others, (), REVIEW_WEIGHTS)


def _sorted(
    members: Iterable[Member], required: tuple[str, ...], weights: Mapping[str, Fraction]
) -> list[Ranked]:
    ranked = [
        _ranked(member, required, weights) for member in members if competent(member, required)
    ]
    return sorted(ranked, key=_order)


def _order(ranked: Ranked) -> tuple[float, int, str]:
    member = ranked.member
    return -ranked.score, member.metrics.open_tasks, member.agent.agent_id


def _ranked(member: Member, required: tuple[str, ...], weights: Mapping[str, Fraction]) -> Ranked:
    values = _values(member, required)
    parts = tuple(ScorePart(name, values[name], float(weight)) for name, weight in weights.items())
    score = sum(part.weight * part.value for part in parts)
    return Ranked(member, round(min(max(score, 0.0), 1.0), _DIGITS), parts)


def _values(member: Member, required: tuple[str, ...]) -> dict[str, float]:
    wanted = _names(required)
    matched = [one for one in member.agent.competences if one.name.casefold() in wanted]
    return {
        # Nothing is asked for: everybody can do all of it.
        "match": len(_names(one.name for one in matched)) / len(wanted) if wanted else 1.0,
        "strength": _mean_strength(matched) if wanted else 1.0,
        "availability": _availability(member),
        "approval_rate": member.metrics.approval_rate,
        "quality": member.metrics.quality,
    }


def _mean_strength(competences: list[Competence]) -> float:
    if not competences:
        return 0.0
    return sum(min(max(one.strength, 0.0), 1.0) for one in competences) / len(competences)


def _availability(member: Member) -> float:
    """Return the share of the agent's own limit that is free."""
    limit = max(member.agent.max_concurrent_tasks, 1)
    return max(0.0, 1.0 - member.metrics.open_tasks / limit)


def _names(names: Iterable[str]) -> set[str]:
    return {name.casefold() for name in names}
