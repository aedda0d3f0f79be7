"""From a DomainEvent to its envelope, and who may see it."""

from dataclasses import dataclass

import pytest

from gathering.events.v1 import event_pb2
from gathering.events.v1.event_log_service_pb2 import LogEntry, LogGap, LogHead, TailResponse
from gathering_mesh import envelope
from gathering_mesh.call import Call, Principal, RequestKey
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.events import DomainEvent
from gathering_mesh.log_frames import joined, parted
from gathering_mesh.ring import Ring, position_of_frame
from tests.support.happenings import MemorySuperseded, ScorePart, TaskCreated, TaskOffered

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_every_payload_of_the_contract_is_found_by_its_message_name() -> None:
    for field in event_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields:
        assert field.message_type is not None
        made: type[DomainEvent] = type(field.message_type.name, (DomainEvent,), {})
        assert made.event_type() == field.name


def test_envelope_carries_payload_and_all_ids_it_mentions() -> None:
    event = MemorySuperseded(memory_id="mem_1", by_memory_id="mem_2")
    made = envelope.build("memory", "mem_1", event, audience=["usr_1"], trace_id="t")
    assert made.type == "memory_superseded"
    assert made.memory_superseded.by_memory_id == "mem_2"
    assert list(made.subject_ids) == ["mem_1", "mem_2"]
    assert list(made.audience.user_ids) == ["usr_1"]
    assert (made.source, made.aggregate_id, made.trace_id) == ("memory", "mem_1", "t")
    assert made.id.startswith("evt_")


def test_lists_and_nested_messages_are_taken_over_and_none_is_absent() -> None:
    parts = (ScorePart("match", 0.5, 2.0),)
    made = envelope.build("o", "tsk_1", TaskOffered("tsk_1", None, 0.5, parts)).task_offered
    assert (made.score_parts[0].name, made.score_parts[0].weight) == ("match", 2.0)
    assert made.agent_id == ""
    created = envelope.build("o", "tsk_1", TaskCreated("tsk_1", ("sql", "rust"))).task_created
    assert list(created.required_competences) == ["sql", "rust"]


def test_event_without_attributes_still_has_its_payload() -> None:
    @dataclass(frozen=True)
    class TaskCancelled(DomainEvent):
        pass

    made = envelope.build("o", "tsk_1", TaskCancelled())
    assert made.WhichOneof("payload") == "task_cancelled"


@dataclass(frozen=True)
class Unheard(DomainEvent):
    memory_id: str = ""


@dataclass(frozen=True)
class MemoryMerged(DomainEvent):
    unheard_id: str = ""


@pytest.mark.parametrize("event", [Unheard(), MemoryMerged()])
def test_names_that_the_contract_does_not_know_are_refused(event: DomainEvent) -> None:
    with pytest.raises(ValueError, match=r"no payload|no field"):
        envelope.build("memory", "mem_1", event)


def test_cause_and_trace_come_from_the_call_and_pass_on_to_reactions() -> None:
    principal = Principal("ten_1", "usr_1", frozenset(), "member", actor="agent")
    call = Call(principal, "m", trace=TRACE, request_key=RequestKey("m", "r1", b""))
    cause = envelope.cause_of_call(call)
    assert (cause.user_id, cause.actor, cause.request_id) == ("usr_1", "agent", "r1")
    assert envelope.trace_id_of(call.trace) == "0af7651916cd43dd8448eb211c80319c"
    assert envelope.trace_id_of("") == ""
    reaction = envelope.cause_of_reaction(event_pb2.Event(source="memory", position=7, cause=cause))
    assert (reaction.user_id, reaction.event_source, reaction.event_position) == (
        "usr_1",
        "memory",
        7,
    )


def entry(position: int = 1, tenant: str = "ten_a", *users: str) -> LogEntry:
    event = event_pb2.Event(position=position, type="task_created", subject_ids=["tsk_1", "crc_1"])
    event.audience.user_ids.extend(users)
    return LogEntry(tenant_id=tenant, event=event)


@pytest.mark.parametrize(
    ("only", "seen"),
    [
        (EventFilter(), True),
        (EventFilter(tenant="ten_a"), True),
        (EventFilter(tenant="ten_b"), False),
        (EventFilter(tenant=""), False),
        (EventFilter(tenant="ten_a", user="usr_1"), True),
        (EventFilter(tenant="ten_a", user="usr_2"), False),
        (EventFilter(tenant="ten_a", user=""), False),
        (EventFilter(tenant="ten_a", user="usr_2", administrator=True), True),
        (EventFilter(tenant="ten_b", user="usr_1", administrator=True), False),
        (EventFilter(types=frozenset({"task_created"})), True),
        (EventFilter(types=frozenset({"task_failed"})), False),
        (EventFilter(subjects=frozenset({"crc_1", "crc_2"})), True),
        (EventFilter(subjects=frozenset({"crc_2"})), False),
        (EventFilter(tenant="ten_b", subjects=frozenset({"crc_1"})), False),
    ],
)
def test_filter_admits_by_tenant_audience_type_and_subject(only: EventFilter, seen: bool) -> None:
    assert only.admits(entry(1, "ten_a", "usr_1")) is seen


def test_event_without_audience_is_seen_by_every_member_of_its_tenant_only() -> None:
    assert EventFilter(tenant="ten_a", user="usr_9").admits(entry())
    assert not EventFilter(tenant="ten_b", user="usr_9").admits(entry())


def frames(first: int, last: int) -> list[TailResponse]:
    return [TailResponse(entry=entry(n)) for n in range(first, last + 1)]


def positions(found: list[TailResponse] | None) -> list[int] | None:
    return None if found is None else [frame.entry.event.position for frame in found]


def test_ring_gives_what_it_holds_and_says_what_it_does_not() -> None:
    ring = Ring(4, position_of_frame)
    ring.begin("e", 10)
    ring.push(frames(11, 16))
    assert positions(ring.after(12, 10)) == [13, 14, 15, 16]
    assert positions(ring.after(12, 2)) == [13, 14]
    assert positions(ring.after(16, 10)) == []
    assert ring.after(11, 10) is None
    assert ring.after(17, 10) is None


def test_ring_that_just_began_holds_nothing_before_its_head() -> None:
    ring = Ring(4, position_of_frame)
    ring.begin("e", 10)
    assert ring.after(9, 10) is None
    assert positions(ring.after(10, 10)) == []
    ring.push(frames(11, 11))
    assert ring.after(9, 10) is None
    assert positions(ring.after(10, 10)) == [11]


def test_ring_refuses_a_gap() -> None:
    ring = Ring(4, position_of_frame)
    ring.begin("e", 10)
    with pytest.raises(ValueError, match="does not follow"):
        ring.push(frames(12, 12))


def test_ring_wakes_its_readers_at_each_change() -> None:
    ring = Ring(4, position_of_frame)
    changed = ring.changed
    ring.begin("e", 0)
    assert changed.is_set()
    assert not ring.changed.is_set()


def test_entries_travel_together_and_come_apart_as_they_were() -> None:
    told = TailResponse(gap=LogGap(reason=LogGap.REASON_EPOCH))
    sent = [*frames(1, 3), told, *frames(4, 4), TailResponse(head=LogHead())]
    travelled = list(joined(sent))
    assert [frame.WhichOneof("frame") for frame in travelled] == ["entries", "gap", "entry", "head"]
    assert [one for frame in travelled for one in parted(frame)] == sent


def test_a_frame_of_entries_is_bounded_and_a_large_entry_goes_by_itself() -> None:
    sent = frames(1, 6)
    for frame, size in zip(sent, (100_000, 100_000, 100_000, 900_000, 10, 10), strict=True):
        frame.entry.event.aggregate_id = "a" * size
    travelled = list(joined(sent))
    held = [[one.entry.event.position for one in parted(frame)] for frame in travelled]
    assert held == [[1, 2], [3], [4], [5, 6]]
    assert list(joined([])) == []
