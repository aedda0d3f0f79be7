"""What the search for a candidate does next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from gathering_orchestrator.circles.models import Member, MemberMode, Metrics
from gathering_orchestrator.tasks.models import Offer
from gathering_orchestrator.tasks.models_plan import Ask, GiveUp, Plan, Wait, plan, waiting_time
from gathering_orchestrator.tasks.models_states import AT_CAPACITY, OfferState
from tests.unit.orchestrator.builders import START, agent_id, member, offer

PATIENCE = timedelta(hours=1)


def planned(
    team: Sequence[Member], offers: Sequence[Offer] = (), *required: str, after: float = 20
) -> Plan:
    return plan(
        team,
        required,
        offers,
        since=START,
        now=START + timedelta(seconds=after),
        patience=PATIENCE,
    )


def asked(step: Plan) -> str:
    assert isinstance(step, Ask), step
    return step.candidate.member.agent.agent_id


def busy(number: int, told: int = 1) -> Offer:
    return offer(number, reason=AT_CAPACITY, open_tasks=told)


def test_nobody_in_the_circle_gives_up_at_once() -> None:
    assert planned([]) == GiveUp("the circle has no members")


def test_nobody_with_the_competence_gives_up_at_once() -> None:
    step = planned([member(1, competences={"sql": 1.0})], (), "python")
    assert step == GiveUp("no active member has one of the competences python")


def test_archived_members_are_no_candidates() -> None:
    assert planned([member(1, archived=True)]) == GiveUp("all members are archived")


def test_who_declined_is_not_asked_again_and_the_next_is() -> None:
    team = [member(1), member(2)]
    assert asked(planned(team, [offer(1, reason="other")])) == agent_id(2)


def test_all_declined_for_good_gives_up_at_once() -> None:
    team = [member(1), member(2)]
    offers = [offer(1, reason="competence"), offer(2, OfferState.EXPIRED, mode=MemberMode.EXTERNAL)]
    assert isinstance(planned(team, offers), GiveUp)


def test_busy_candidates_are_waited_for() -> None:
    step = planned([member(1, Metrics(open_tasks=1))], [busy(1)], after=20)
    assert step == Wait(START + timedelta(seconds=25))


def test_busy_candidate_is_asked_again_once_it_has_room() -> None:
    assert asked(planned([member(1, Metrics(open_tasks=0))], [busy(1)])) == agent_id(1)


def test_busy_candidate_is_asked_again_after_its_definition_changed() -> None:
    changed = member(1, Metrics(open_tasks=1), update_time=START + timedelta(seconds=15))
    assert asked(planned([changed], [busy(1)])) == agent_id(1)


def test_busy_candidate_is_given_up_when_patience_ends() -> None:
    team = [member(1, Metrics(open_tasks=1))]
    step = planned(team, [busy(1)], after=PATIENCE.total_seconds())
    assert step == GiveUp("no candidate had room within 3600 s")


def test_managed_member_that_could_not_be_reached_is_asked_again_after_a_while() -> None:
    missed = offer(1, OfferState.EXPIRED)
    assert isinstance(planned([member(1)], [missed], after=61), Wait)
    assert asked(planned([member(1)], [missed], after=60 + 15)) == agent_id(1)


def test_external_member_that_did_not_answer_is_not_asked_again() -> None:
    missed = offer(1, OfferState.EXPIRED, mode=MemberMode.EXTERNAL)
    assert isinstance(planned([member(1)], [missed], after=3000), GiveUp)


def test_search_that_made_too_many_offers_gives_up() -> None:
    offers = [offer(1, OfferState.EXPIRED, offer_id=f"off_{n:032x}") for n in range(500)]
    assert planned([member(1)], offers, after=600) == GiveUp("500 offers came to nothing")


offers_made = st.lists(
    st.builds(
        offer,
        st.integers(0, 3),
        st.sampled_from([OfferState.DECLINED, OfferState.EXPIRED, OfferState.WITHDRAWN]),
        reason=st.sampled_from([AT_CAPACITY, "other", "competence"]),
        open_tasks=st.integers(0, 3),
        mode=st.sampled_from(list(MemberMode)),
    ),
    max_size=6,
)
teams = st.lists(st.integers(0, 3), unique=True).flatmap(
    lambda numbers: st.tuples(
        *[
            st.builds(member, st.just(number), st.builds(Metrics, open_tasks=st.integers(0, 3)))
            for number in numbers
        ]
    )
)


@given(teams, offers_made, st.floats(0, 4000))
def test_every_wait_ends_and_lies_ahead(
    team: tuple[Member, ...], offers: list[Offer], after: float
) -> None:
    step = planned(team, offers, after=after)
    if isinstance(step, Wait):
        assert START + timedelta(seconds=after) < step.until <= START + PATIENCE


@given(st.floats(0, 1e6))
def test_waiting_time_grows_and_is_bounded(seconds: float) -> None:
    shorter, longer = (waiting_time(timedelta(seconds=s)) for s in (seconds, seconds * 2))
    assert timedelta(seconds=1) <= shorter <= longer <= timedelta(minutes=5)
