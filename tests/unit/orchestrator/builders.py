"""Members, tasks and offers of unit tests, usual in all that a test does not name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gathering_orchestrator.circles.models import Agent, Competence, Member, MemberMode, Metrics
from gathering_orchestrator.tasks.models import Judgement, Offer, Review, Task, TaskFields
from gathering_orchestrator.tasks.models_states import OfferState, TaskState

START = datetime(2030, 1, 1, tzinfo=UTC)


def agent_id(number: int) -> str:
    """Return the id of an agent; the lower the number, the older it is."""
    return f"agt_{number:032x}"


def member(number: int = 1, metrics: Metrics | None = None, **fields: Any) -> Member:
    """Return a member; `competences` as a mapping, `limit`, `archived`, `update_time`."""
    said = {"competences": {}, "limit": 1, "archived": False, "update_time": START, **fields}
    agent = Agent(
        agent_id=agent_id(number),
        name=f"Agent {number}",
        competences=tuple(Competence(n, s) for n, s in said["competences"].items()),
        archived=said["archived"],
        max_concurrent_tasks=said["limit"],
        update_time=said["update_time"],
    )
    return Member(
        agent,
        fields.get("mode", MemberMode.MANAGED),
        fields.get("can_review", True),
        START,
        metrics or Metrics(),
    )


def task(**fields: Any) -> Task:
    """Return a task; names of `TaskFields` or of `Task`."""
    content = TaskFields(
        circle_id="crc_" + "0" * 32, title="Review", description="Read it.",
        acceptance_criteria=("Names files", "Names lines"), required_competences=(), priority=5,
        workspace_id="", requires_review=True, max_tool_calls=100, max_rounds=3,
        offer_timeout=timedelta(seconds=60),
    )  # fmt: skip
    whole = Task(
        task_id="tsk_" + "0" * 32, fields=content, state=TaskState.PENDING, state_message="",
        assigned_agent_id="", assigned_mode=None, round=0, summary="", submitted_round=0,
        session_id="", search=1, search_time=START, version=1, owner_user_id="usr",
        delegation_id="dlg", trace="", create_time=START, update_time=START, end_time=None,
    )  # fmt: skip
    inner = {name: value for name, value in fields.items() if hasattr(content, name)}
    outer = {name: value for name, value in fields.items() if name not in inner}
    return replace(whole, fields=replace(content, **inner), **outer)


def offer(number: int = 1, state: OfferState = OfferState.DECLINED, **fields: Any) -> Offer:
    """Return an offer to an agent, made at START and answered 10 s later."""
    whole = Offer(
        offer_id=f"off_{number:032x}", task_id="tsk", agent_id=agent_id(number), agent_name="A",
        mode=MemberMode.MANAGED, state=state, score=0.5, score_parts=(), reason="", message="",
        search=1, open_tasks=0, create_time=START, expire_time=START + timedelta(seconds=60),
        answer_time=None if state is OfferState.OPEN else START + timedelta(seconds=10),
    )  # fmt: skip
    return replace(whole, **fields)


def review(number: int, round: int, judgement: Judgement | None, *, ended: bool = True) -> Review:
    """Return a review by an agent."""
    return Review(
        review_id=f"rev_{round:032x}", task_id="tsk", reviewer_agent_id=agent_id(number),
        reviewer_name="R", reviewer_user_id="", mode=MemberMode.MANAGED, round=round,
        judgement=judgement, create_time=START, end_time=START if ended else None,
    )  # fmt: skip
