"""Contract to models and back without loss."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gathering.memory.v1 import memory_pb2 as pb
from gathering.memory.v1 import memory_service_pb2 as service_pb
from gathering_memory import convert
from gathering_memory.models import (
    Draft,
    Listing,
    Members,
    Memory,
    MemoryState,
    MemoryType,
    Provenance,
    Question,
    Scope,
    ScopeKind,
)

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
moments = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - naive is what it takes
scopes = st.builds(Scope, kind=st.sampled_from(ScopeKind), id=text)
members = st.builds(
    Members,
    scope=scopes,
    version=st.integers(1, 2**62),
    agent_ids=st.lists(text, unique=True).map(tuple),
    user_ids=st.lists(text, unique=True).map(tuple),
)
memories = st.builds(
    Memory,
    id=text,
    text=text,
    scope=scopes,
    type=st.sampled_from(MemoryType),
    importance=st.floats(0, 1),
    agent_id=text,
    owner_user_id=text,
    provenance=st.builds(
        Provenance, session_id=text, turn_id=text, task_id=text, memory_id=text, source=text
    ),
    state=st.sampled_from(MemoryState),
    superseded_by=text,
    tags=st.lists(text).map(tuple),
    remembered_count=st.integers(0, 2**62),
    recalled_count=st.integers(0, 2**62),
    embedded=st.booleans(),
    created_at=moments,
    last_recalled_at=st.none() | moments,
)


@given(memories)
def test_memory_survives_the_contract(memory: Memory) -> None:
    wire = pb.Memory.FromString(convert.memory_message(memory).SerializeToString())
    assert convert.memory_of(wire) == memory


@given(members)
def test_members_survive_the_contract(told: Members) -> None:
    assert convert.members_of(convert.members_message(told)) == told


@given(scopes)
def test_scope_survives_the_contract(scope: Scope) -> None:
    assert convert.scope_of(convert.scope_message(scope)) == scope


def test_every_enum_value_of_the_contract_is_known() -> None:
    for name, number in pb.MemoryType.items():
        known = convert.type_of(number)
        assert (known is None) == (number == 0), name
    assert len(pb.MemoryType.items()) == len(MemoryType) + 1
    assert len(pb.ScopeKind.items()) == len(ScopeKind) + 1
    assert len(pb.MemoryState.items()) == len(MemoryState) + 1


def test_defaults_are_those_of_the_contract() -> None:
    scope = pb.Scope(kind=pb.SCOPE_KIND_TENANT)
    draft = convert.draft_of(service_pb.RememberRequest(text="x", scope=scope))
    assert draft == Draft("x", Scope(ScopeKind.TENANT), MemoryType.FACT, 0.5)
    trivial = service_pb.RememberRequest(text="x", scope=scope, importance=0)
    assert convert.draft_of(trivial).importance == 0
    assert convert.question_of(service_pb.RecallRequest(query="q")) == Question("q", limit=10)
    assert convert.listing_of(service_pb.ListMemoriesRequest()) == Listing()


def test_repeated_tags_types_and_members_count_once() -> None:
    request = service_pb.RememberRequest(
        text="x", scope=pb.Scope(kind=pb.SCOPE_KIND_TENANT), tags=["a", "b", "a"]
    )
    assert convert.draft_of(request).tags == ("a", "b")
    asked = service_pb.RecallRequest(
        query="q",
        types=[
            pb.MEMORY_TYPE_FACT,
            pb.MEMORY_TYPE_UNSPECIFIED,
            pb.MEMORY_TYPE_FACT,
            pb.MEMORY_TYPE_DECISION,
        ],
    )
    assert convert.question_of(asked).types == (MemoryType.FACT, MemoryType.DECISION)
