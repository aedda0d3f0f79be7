"""Frames of the feed: from the models to the contract."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import event_service_pb2 as pb
from gathering_gateway.models_feed import (
    CheckpointFrame,
    EventFrame,
    EventPage,
    Frame,
    GapFrame,
    ReconnectFrame,
    Wanted,
)
from gathering_mesh.streams import Encoded


def wanted(asked: pb.EventFilter) -> Wanted:
    """Return what a filter asks for."""
    return Wanted(frozenset(asked.types), frozenset(asked.subject_ids), frozenset(asked.sources))


def frame_message(frame: Frame) -> pb.SubscribeResponse | Encoded:
    """Return a frame as the contract has it; events in bytes, which their next reader gets too."""
    match frame:
        case EventFrame():
            return _encoded(frame)
        case CheckpointFrame(cursor):
            now = Timestamp()
            now.GetCurrentTime()
            return pb.SubscribeResponse(checkpoint=pb.Checkpoint(cursor=cursor, time=now))
        case GapFrame():
            return pb.SubscribeResponse(gap=_gap(frame))
        case ReconnectFrame(reason, cursor):
            return pb.SubscribeResponse(reconnect=pb.Reconnect(reason=reason, cursor=cursor))


def page_message(page: EventPage) -> pb.ListEventsResponse:
    """Return a page as the contract has it."""
    return pb.ListEventsResponse(
        events=map(_event, page.events),
        next_cursor=page.cursor,
        end=page.end,
        gaps=map(_gap, page.gaps),
    )


def _encoded(frame: EventFrame) -> Encoded:
    kept = frame.seen.wire
    if isinstance(kept, tuple) and kept[0] == frame.cursor:
        encoded: Encoded = kept[1]
        return encoded
    made = Encoded.of(pb.SubscribeResponse(event=_event(frame)))
    frame.seen.wire = (frame.cursor, made)
    return made


def _event(frame: EventFrame) -> pb.EventFrame:
    event = frame.seen.event
    assert isinstance(event, Event)  # noqa: S101 (sources give nothing else)
    return pb.EventFrame(event=event, cursor=frame.cursor)


def _gap(frame: GapFrame) -> pb.Gap:
    return pb.Gap(source=frame.source, reason=frame.reason, cursor=frame.cursor)
