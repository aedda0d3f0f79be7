"""Circles and members, between the contract and the models."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from gathering.orchestrator.v1 import circle_pb2
from gathering_orchestrator.circles.models import (
    Circle,
    CircleFields,
    Member,
    MemberFields,
    MemberMode,
    Metrics,
)

_ROUNDS = 3
_OFFER_TIMEOUT = timedelta(seconds=60)
_MODES = {
    MemberMode.MANAGED: circle_pb2.MEMBER_MODE_MANAGED,
    MemberMode.EXTERNAL: circle_pb2.MEMBER_MODE_EXTERNAL,
}


def circle_fields(given: circle_pb2.Circle) -> CircleFields:
    """Return what a caller says of a circle, with the contract's defaults."""
    return CircleFields(
        name=given.name,
        purpose=given.purpose,
        workspace_id=given.workspace_id,
        requires_review=given.requires_review if given.HasField("requires_review") else True,
        max_rounds=given.max_rounds or _ROUNDS,
        offer_timeout=given.offer_timeout.ToTimedelta()
        if given.HasField("offer_timeout")
        else _OFFER_TIMEOUT,
    )


def circle_to_proto(circle: Circle) -> circle_pb2.Circle:
    """Return a circle as callers see it."""
    fields = circle.fields
    return circle_pb2.Circle(
        circle_id=circle.circle_id,
        name=fields.name,
        purpose=fields.purpose,
        workspace_id=fields.workspace_id,
        requires_review=fields.requires_review,
        max_rounds=fields.max_rounds,
        offer_timeout=duration(fields.offer_timeout),
        etag=circle.etag,
        owner_user_id=circle.owner_user_id,
        create_time=timestamp(circle.create_time),
    )


def member_fields(given: circle_pb2.Member) -> MemberFields:
    """Return what a caller says of a member, with the contract's defaults."""
    external = given.mode == circle_pb2.MEMBER_MODE_EXTERNAL
    return MemberFields(
        agent_id=given.agent_id,
        mode=MemberMode.EXTERNAL if external else MemberMode.MANAGED,
        can_review=given.can_review if given.HasField("can_review") else True,
    )


def member_to_proto(member: Member) -> circle_pb2.Member:
    """Return a member as callers see it."""
    return circle_pb2.Member(
        agent_id=member.agent.agent_id,
        name=member.agent.name,
        mode=_MODES[member.mode],
        can_review=member.can_review,
        competences=[
            circle_pb2.MemberCompetence(name=one.name, strength=one.strength)
            for one in member.agent.competences
        ],
        metrics=_metrics(member.metrics),
        join_time=timestamp(member.join_time),
    )


def _metrics(metrics: Metrics) -> circle_pb2.MemberMetrics:
    return circle_pb2.MemberMetrics(
        open_task_count=metrics.open_tasks,
        completed_task_count=metrics.completed,
        failed_task_count=metrics.failed,
        review_count=metrics.reviews,
        approval_rate=metrics.approval_rate,
        quality=metrics.quality,
    )


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a time of the contract, None for none."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def duration(span: timedelta) -> Duration:
    """Return a span of the contract."""
    value = Duration()
    value.FromTimedelta(span)
    return value
