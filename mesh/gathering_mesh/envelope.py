"""Turn a DomainEvent into its envelope: the only place that knows both.

Payloads are matched to their messages by name, so that a service declares an event once, as a
dataclass; a name that the contract does not know fails where the event is emitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from google.protobuf.message import Message

from gathering.events.v1 import event_pb2
from gathering_mesh.call import Call
from gathering_mesh.events import DomainEvent
from gathering_mesh.ids import new_id

_PAYLOADS = frozenset(
    field.name for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields
)
_TRACE_ID = slice(3, 35)  # of a W3C traceparent


def build(
    source: str,
    aggregate_id: str,
    event: DomainEvent,
    *,
    audience: Sequence[str] = (),
    cause: event_pb2.Cause | None = None,
    trace_id: str = "",
) -> event_pb2.Event:
    """Return the envelope of an event, still without version, place and time.

    Raises ValueError for an event or an attribute that `gathering.events.v1` does not name.
    """
    kind = event.event_type()
    if kind not in _PAYLOADS:
        raise ValueError(f"{type(event).__name__} is no payload of gathering.events.v1.Event")
    envelope = event_pb2.Event(
        id=new_id("evt"), source=source, aggregate_id=aggregate_id, type=kind, trace_id=trace_id
    )
    if audience:
        envelope.audience.user_ids.extend(audience)
    if cause is not None:
        envelope.cause.CopyFrom(cause)
    payload: Message = getattr(envelope, kind)
    payload.SetInParent()
    _fill(payload, event)
    envelope.subject_ids.extend(dict.fromkeys((aggregate_id, *_mentioned_ids(payload))))
    return envelope


def cause_of_call(call: Call) -> event_pb2.Cause:
    """Return the cause of what a call does."""
    return event_pb2.Cause(
        user_id=call.user,
        actor=call.principal.actor or "",
        request_id=call.request_key.request_id if call.request_key else "",
        delegation_id=call.principal.delegation or "",
        api_key_id=call.principal.api_key or "",
    )


def cause_of_reaction(event: event_pb2.Event) -> event_pb2.Cause:
    """Return the cause of what a reaction does: the event, and the user behind it."""
    return event_pb2.Cause(
        user_id=event.cause.user_id, event_source=event.source, event_position=event.position
    )


def trace_id_of(traceparent: str) -> str:
    """Return the trace id of a W3C traceparent, empty for an empty one."""
    return traceparent[_TRACE_ID]


def _fill(message: Message, values: Any) -> None:
    known = message.DESCRIPTOR.fields_by_name
    for attribute in fields(values):
        field = known.get(attribute.name)
        if field is None:
            raise ValueError(f"{message.DESCRIPTOR.full_name} has no field {attribute.name}")
        value = getattr(values, attribute.name)
        if value is not None:
            _set(message, field, value)


def _set(message: Message, field: Any, value: Any) -> None:
    target = getattr(message, field.name)
    if field.is_repeated:
        for item in value:
            if field.message_type:
                _fill(target.add(), item)
            else:
                target.append(_plain(item))
    elif field.message_type is None:
        setattr(message, field.name, _plain(value))
    elif isinstance(value, datetime):
        target.FromDatetime(value.astimezone(UTC))
    else:
        target.SetInParent()
        _fill(target, value)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _mentioned_ids(message: Message) -> Iterator[str]:
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _mentioned_ids(part)
        elif field.name.endswith("_id"):
            yield value
        elif field.name.endswith("_ids"):
            yield from value
