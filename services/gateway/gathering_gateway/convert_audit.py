"""From events to entries, and from entries to the contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gathering.events.v1 import event_pb2
from gathering.gateway.v1 import audit_service_pb2 as pb
from gathering_gateway.convert import timestamp
from gathering_gateway.models_audit import AuditEntry, AuditFilter

# Steps of work that was asked for once, and that has an entry of its own.
_NOT_ENTERED = {"turn_step_completed", "execution_started"}
TYPES = {
    field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
} - _NOT_ENTERED


def entry(event: event_pb2.Event) -> AuditEntry:
    """Return what is entered of an event: who and which, of its content nothing."""
    payload: Any = getattr(event, event.type)
    return AuditEntry(
        event_id=event.id,
        time=event.commit_time.ToDatetime(UTC),
        source=event.source,
        action=event.type,
        resource_id=event.aggregate_id,
        user_id=event.cause.user_id or getattr(payload, "user_id", ""),
        actor=event.cause.actor,
        delegation_id=event.cause.delegation_id,
        api_key_id=event.cause.api_key_id,
        request_id=event.cause.request_id,
        trace_id=event.trace_id,
        address=getattr(payload, "address", ""),
        reason=payload.reason if event.type == "login_refused" else "",
    )


def filter_of(request: pb.ListAuditEntriesRequest) -> AuditFilter:
    """Return what a request asks for."""
    return AuditFilter(
        user_id=request.user_id,
        resource_id=request.resource_id,
        actions=tuple(sorted(set(request.actions))),
        after=_moment(request.after_time) if request.HasField("after_time") else None,
        before=_moment(request.before_time) if request.HasField("before_time") else None,
    )


def message(found: AuditEntry) -> pb.AuditEntry:
    """Return an entry as the contract has it."""
    return pb.AuditEntry(
        event_id=found.event_id,
        time=timestamp(found.time),
        action=found.action,
        resource_id=found.resource_id,
        source=found.source,
        user_id=found.user_id,
        actor=found.actor,
        delegation_id=found.delegation_id,
        api_key_id=found.api_key_id,
        request_id=found.request_id,
        trace_id=found.trace_id,
        address=found.address,
        reason=found.reason,
    )


def _moment(given: Timestamp) -> datetime:
    return given.ToDatetime(UTC)
