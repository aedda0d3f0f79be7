"""Tasks with their offers, reviews, artifacts and the turns that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.tasks.models_states import (
    OfferState,
    TaskState,
    TurnOutcome,
    Verdict,
)

Json = Mapping[str, Any]  # JSON whose schema is stated beside its use


@dataclass(frozen=True, slots=True)
class Caps:
    """What work may use, in tokens, micro-USD, model calls and time; None: not capped."""

    tokens: int | None = None
    cost: int | None = None
    calls: int | None = None
    wall_time: timedelta | None = None


@dataclass(frozen=True, slots=True)
class TaskDraft:
    """What a caller asks for; 0, empty and None mean: as the circle says, or the default."""

    circle_id: str
    title: str
    description: str
    acceptance_criteria: tuple[str, ...]
    required_competences: tuple[str, ...]
    priority: int
    workspace_id: str
    requires_review: bool | None
    max_tool_calls: int
    budget: Caps | None = None
    parent_task_id: str = ""


@dataclass(frozen=True, slots=True)
class TaskFields:
    """What a task is, fixed when it is created."""

    circle_id: str
    title: str
    description: str
    acceptance_criteria: tuple[str, ...]
    required_competences: tuple[str, ...]
    priority: int
    workspace_id: str
    requires_review: bool
    max_tool_calls: int
    max_rounds: int
    offer_timeout: timedelta
    parent_task_id: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """Work for a circle, as its row stands.

    `search` counts the searches for a candidate; `trace` is the W3C traceparent of its creation, in
    whose trace all of its work is done.
    """

    task_id: str
    fields: TaskFields
    state: TaskState
    state_message: str
    assigned_agent_id: str
    assigned_mode: MemberMode | None
    round: int
    summary: str
    submitted_round: int
    session_id: str
    search: int
    search_time: datetime
    version: int
    owner_user_id: str
    delegation_id: str
    trace: str
    create_time: datetime
    update_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of a task's result."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ScorePart:
    """One part of a score: `weight * value` is added; values from 0 to 1, weights sum to 1."""

    name: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class Offer:
    """A task offered to an agent. `open_tasks`: how many the agent had when it was asked."""

    offer_id: str
    task_id: str
    agent_id: str
    agent_name: str
    mode: MemberMode
    state: OfferState
    score: float
    score_parts: tuple[ScorePart, ...]
    reason: str
    message: str
    search: int
    open_tasks: int
    create_time: datetime
    expire_time: datetime
    answer_time: datetime | None


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """A criterion, whether the work meets it, and what shows it."""

    criterion: str
    met: bool
    evidence: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a review found."""

    verdict: Verdict
    score: float
    comment: str
    criteria: tuple[CriterionResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Review:
    """A look at one round of work. Without a reviewer agent a human decided."""

    review_id: str
    task_id: str
    reviewer_agent_id: str
    reviewer_name: str
    reviewer_user_id: str
    mode: MemberMode | None
    round: int
    judgement: Judgement | None
    create_time: datetime
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was asked of the agent service, stored before it is asked.

    `key` names it for ever and is the request id, `prompt` is what is said: so a repeat after a
    crash is the same request. `turn_id` is empty until the agent service answered.
    """

    key: str
    task_id: str
    review_id: str
    agent_id: str
    session_id: str
    prompt: str
    turn_id: str
    acknowledged: bool
    outcome: TurnOutcome | None
    reason: str


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """What came of a turn.

    `result` is what was submitted, None without a submission; `refused`: the model would not
    answer; `failure` says why it failed, if it did.
    """

    text: str
    result: Json | None
    refused: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task with all that belongs to it."""

    task: Task
    offers: tuple[Offer, ...] = ()
    reviews: tuple[Review, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
