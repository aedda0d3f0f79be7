"""Who is asked to review."""

from __future__ import annotations

from gathering_orchestrator.circles.models import Metrics
from gathering_orchestrator.tasks.models import Judgement
from gathering_orchestrator.tasks.models_reviewers import choose_reviewer
from gathering_orchestrator.tasks.models_states import TaskState, Verdict
from tests.unit.orchestrator.builders import agent_id, member, review, task

CHANGES = Judgement(Verdict.CHANGES_REQUESTED, 0.5, "")
WORK = task(
    state=TaskState.IN_REVIEW, assigned_agent_id=agent_id(1), round=1,
    required_competences=("python",),
)  # fmt: skip


def test_author_archived_and_barred_members_do_not_review() -> None:
    team = [member(1), member(2, archived=True), member(3, can_review=False)]
    assert choose_reviewer(WORK, team, []) is None


def test_competent_member_reviews_before_others() -> None:
    team = [member(2), member(3, competences={"python": 0.2})]
    assert chosen(team) == agent_id(3)


def test_member_without_competence_reviews_if_nobody_else_can() -> None:
    assert chosen([member(1), member(2)]) == agent_id(2)


def test_of_equals_the_one_with_room_reviews() -> None:
    assert chosen([member(2, Metrics(open_tasks=1)), member(3)]) == agent_id(3)


def test_who_asked_for_the_changes_looks_at_them() -> None:
    team = [member(2, competences={"python": 1.0}), member(3)]
    second = task(state=TaskState.IN_REVIEW, assigned_agent_id=agent_id(1), round=2)
    reviewer = choose_reviewer(second, team, [review(3, 1, CHANGES)])
    assert reviewer is not None
    assert reviewer.agent.agent_id == agent_id(3)


def test_who_came_to_no_judgement_in_this_round_is_not_asked_again() -> None:
    reviewer = choose_reviewer(WORK, [member(2), member(3)], [review(2, 1, None)])
    assert reviewer is not None
    assert reviewer.agent.agent_id == agent_id(3)


def chosen(team: list) -> str:  # type: ignore[type-arg]  # of members
    reviewer = choose_reviewer(WORK, team, [])
    assert reviewer is not None
    return reviewer.agent.agent_id
