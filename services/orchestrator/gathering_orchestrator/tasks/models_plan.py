"""What the search for a candidate does next: pure, from the members and the offers so far."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gathering_orchestrator.circles.models import Member, MemberMode
from gathering_orchestrator.tasks.models import Offer
from gathering_orchestrator.tasks.models_ranking import Ranked, rank
from gathering_orchestrator.tasks.models_states import AT_CAPACITY, OfferState

# While every candidate is busy the search waits and looks again, after a quarter of the time that
# it has lasted: soon at first, then seldom. It is also woken when a member ends a task.
_WAIT_SHARE = 4
_SHORTEST_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = timedelta(minutes=5)
_MOST_OFFERS = 500  # of one search, so that a task with all its offers stays readable


@dataclass(frozen=True, slots=True)
class Ask:
    """Offer the task to this one."""

    candidate: Ranked


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody can be asked now, somebody may later; look again then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody is left; `message` tells a human why."""

    message: str


Plan = Ask | Wait | GiveUp


def plan(
    members: Sequence[Member],
    required: Sequence[str],
    offers: Sequence[Offer],
    *,
    since: datetime,
    now: datetime,
    patience: timedelta,
) -> Plan:
    """Decide the next step of a search that began at `since`; `offers` are those of the search.

    Who declined or let an offer expire is not asked again, but for two reasons that time cures: it
    was at its limit (asked again once it has fewer open tasks than then), or the mesh could not
    reach it (asked again after a while). Those are waited for, as long as `patience` lasts.
    """
    ranked = rank([member for member in members if not member.agent.archived], required)
    if not ranked:
        return GiveUp(_nobody_fits(members, required))
    if len(offers) >= _MOST_OFFERS:
        return GiveUp(f"{len(offers)} offers came to nothing")
    last = _last_offers(offers)
    for candidate in ranked:
        if _may_be_asked(candidate.member, last.get(candidate.member.agent.agent_id), since, now):
            return Ask(candidate)
    if not any(_may_change(last[candidate.member.agent.agent_id]) for candidate in ranked):
        return GiveUp(f"all {len(ranked)} candidates declined or did not answer")
    if now - since >= patience:
        return GiveUp(f"no candidate had room within {patience.total_seconds():.0f} s")
    return Wait(min(now + waiting_time(now - since), since + patience))


def waiting_time(lasted: timedelta) -> timedelta:
    """Return how long to wait before looking again, from how long it lasted already."""
    return min(max(lasted / _WAIT_SHARE, _SHORTEST_WAIT), _LONGEST_WAIT)


def _last_offers(offers: Iterable[Offer]) -> dict[str, Offer]:
    return {offer.agent_id: offer for offer in sorted(offers, key=lambda one: one.offer_id)}


def _may_be_asked(member: Member, last: Offer | None, since: datetime, now: datetime) -> bool:
    if last is None:
        return True
    if _declined_for_room(last):
        return member.metrics.open_tasks < last.open_tasks or _changed_since(member, last)
    if _was_unreachable(last):
        return now >= last.expire_time + waiting_time(last.expire_time - since)
    return False


def _may_change(last: Offer) -> bool:
    return _declined_for_room(last) or _was_unreachable(last)


def _declined_for_room(offer: Offer) -> bool:
    return offer.state is OfferState.DECLINED and offer.reason == AT_CAPACITY


def _was_unreachable(offer: Offer) -> bool:
    """The mesh asks MANAGED members itself: no answer means that it could not."""
    return offer.state is OfferState.EXPIRED and offer.mode is MemberMode.MANAGED


def _changed_since(member: Member, offer: Offer) -> bool:
    """The agent's definition changed, perhaps its limit."""
    return offer.answer_time is not None and member.agent.update_time > offer.answer_time


def _nobody_fits(members: Sequence[Member], required: Sequence[str]) -> str:
    if not members:
        return "the circle has no members"
    if all(member.agent.archived for member in members):
        return "all members are archived"
    return f"no active member has one of the competences {', '.join(required)}"
