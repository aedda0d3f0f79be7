"""Who is to review: pure, from the members and the reviews so far."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_orchestrator.circles.models import Member
from gathering_orchestrator.tasks.models import Review, Task
from gathering_orchestrator.tasks.models_ranking import rank_reviewers


def choose_reviewer(
    task: Task, members: Sequence[Member], reviews: Sequence[Review]
) -> Member | None:
    """Return who is to review: not the author, may review, active, did not fail in this round.

    Who asked for the changes looks at them first; the others by competence, room and quality.
    """
    failed = {
        review.reviewer_agent_id
        for review in reviews
        if review.round == task.round and review.end_time and review.judgement is None
    }
    able = [
        member
        for member in members
        if member.can_review
        and not member.agent.archived
        and member.agent.agent_id != task.assigned_agent_id
        and member.agent.agent_id not in failed
    ]
    last = last_given(reviews)
    if last is not None:
        for member in able:
            if member.agent.agent_id == last.reviewer_agent_id:
                return member
    ranked = rank_reviewers(able, task.fields.required_competences)
    return ranked[0].member if ranked else None


def last_given(reviews: Sequence[Review]) -> Review | None:
    """Return the review that was given last, of reviews in the order of their making."""
    given = [review for review in reviews if review.judgement is not None]
    return given[-1] if given else None
