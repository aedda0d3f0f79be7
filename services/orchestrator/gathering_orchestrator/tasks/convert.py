"""Tasks, offers, reviews and artifacts, between the contract and the models."""

from __future__ import annotations

from collections.abc import Iterable

from gathering.agent.v1 import budget_pb2
from gathering.orchestrator.v1 import task_pb2, task_service_pb2
from gathering_orchestrator.circles.convert import timestamp
from gathering_orchestrator.tasks.models import (
    Artifact,
    Caps,
    Offer,
    Review,
    Task,
    TaskDraft,
    TaskView,
)
from gathering_orchestrator.tasks.models_states import TaskState, Verdict


def draft(request: task_service_pb2.CreateTaskRequest) -> TaskDraft:
    """Return what a caller wants to be done."""
    asked = request.requires_review if request.HasField("requires_review") else None
    return TaskDraft(
        circle_id=request.circle_id,
        title=request.title,
        description=request.description,
        acceptance_criteria=tuple(request.acceptance_criteria),
        required_competences=tuple(request.required_competences),
        priority=request.priority,
        workspace_id=request.workspace_id,
        requires_review=asked,
        max_tool_calls=request.max_tool_calls,
        budget=_caps(request.budget) if request.HasField("budget") else None,
        parent_task_id=request.parent_task_id,
    )


def _caps(given: budget_pb2.BudgetCaps) -> Caps:
    time = given.max_wall_time.ToTimedelta() if given.HasField("max_wall_time") else None
    return Caps(
        tokens=given.max_tokens if given.HasField("max_tokens") else None,
        cost=given.max_cost_micro_usd if given.HasField("max_cost_micro_usd") else None,
        calls=given.max_model_calls if given.HasField("max_model_calls") else None,
        wall_time=time,
    )


def state_filter(state: task_pb2.TaskState.ValueType) -> TaskState | None:
    """Return the state that a list is narrowed to, None for all."""
    if state == task_pb2.TASK_STATE_UNSPECIFIED:
        return None
    return TaskState(task_pb2.TaskState.Name(state).removeprefix("TASK_STATE_"))


def verdict(given: task_pb2.ReviewVerdict.ValueType) -> Verdict:
    """Return what is decided; the contract's bounds let no unknown verdict in."""
    return Verdict(task_pb2.ReviewVerdict.Name(given).removeprefix("REVIEW_VERDICT_"))


def artifacts_of(given: Iterable[task_pb2.TaskArtifact]) -> list[Artifact]:
    """Return the files that were handed in."""
    return [Artifact(one.path, one.sha256, one.size_bytes) for one in given]


def task_to_proto(view: TaskView) -> task_pb2.Task:
    """Return a task as callers see it, with all that belongs to it."""
    message = bare_task_to_proto(view.task)
    message.artifacts.extend(
        task_pb2.TaskArtifact(path=one.path, sha256=one.sha256, size_bytes=one.size_bytes)
        for one in view.artifacts
    )
    message.offers.extend(map(_offer, view.offers))
    message.reviews.extend(map(_review, filter(_counts, view.reviews)))
    return message


def bare_task_to_proto(task: Task) -> task_pb2.Task:
    """Return a task as lists show it."""
    fields = task.fields
    return task_pb2.Task(
        task_id=task.task_id,
        circle_id=fields.circle_id,
        title=fields.title,
        description=fields.description,
        acceptance_criteria=fields.acceptance_criteria,
        required_competences=fields.required_competences,
        priority=fields.priority,
        workspace_id=fields.workspace_id,
        requires_review=fields.requires_review,
        max_tool_calls=fields.max_tool_calls,
        state=task_pb2.TaskState.Value(f"TASK_STATE_{task.state}"),
        assigned_agent_id=task.assigned_agent_id,
        round=task.round,
        summary=task.summary,
        state_message=task.state_message,
        owner_user_id=task.owner_user_id,
        create_time=timestamp(task.create_time),
        update_time=timestamp(task.update_time),
        end_time=timestamp(task.end_time),
        parent_task_id=fields.parent_task_id,
    )


def _counts(review: Review) -> bool:
    """Tell whether a review was given or is awaited; those that came to nothing are not shown."""
    return review.end_time is None or review.judgement is not None


def _offer(offer: Offer) -> task_pb2.Offer:
    return task_pb2.Offer(
        offer_id=offer.offer_id,
        agent_id=offer.agent_id,
        agent_name=offer.agent_name,
        state=task_pb2.OfferState.Value(f"OFFER_STATE_{offer.state}"),
        score=offer.score,
        score_parts=[
            task_pb2.OfferScorePart(name=part.name, value=part.value, weight=part.weight)
            for part in offer.score_parts
        ],
        reason=offer.reason,
        message=offer.message,
        create_time=timestamp(offer.create_time),
        expire_time=timestamp(offer.expire_time),
        answer_time=timestamp(offer.answer_time),
    )


def _review(review: Review) -> task_pb2.Review:
    message = task_pb2.Review(
        review_id=review.review_id,
        reviewer_agent_id=review.reviewer_agent_id,
        reviewer_name=review.reviewer_name,
        reviewer_user_id=review.reviewer_user_id,
        round=review.round,
        create_time=timestamp(review.create_time),
        end_time=timestamp(review.end_time),
    )
    found = review.judgement
    if found is not None:
        message.verdict = task_pb2.ReviewVerdict.Value(f"REVIEW_VERDICT_{found.verdict}")
        message.score = found.score
        message.comment = found.comment
        message.criteria.extend(
            task_pb2.CriterionResult(criterion=one.criterion, met=one.met, evidence=one.evidence)
            for one in found.criteria
        )
    return message
