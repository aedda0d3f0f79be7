"""Contract to models and back."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from gathering.memory.v1 import memory_pb2 as pb
from gathering.memory.v1 import memory_service_pb2 as service_pb
from gathering_memory.models import (
    DEFAULT_IMPORTANCE,
    DEFAULT_LIMIT,
    Draft,
    Hit,
    Listing,
    Members,
    Memory,
    MemoryState,
    MemoryType,
    Page,
    Provenance,
    Question,
    Recalled,
    Scope,
    ScopeKind,
)

E = TypeVar("E", bound=StrEnum)


def draft_of(request: service_pb.RememberRequest) -> Draft:
    """Return what is to be remembered."""
    given = request.HasField("importance")
    return Draft(
        text=request.text,
        scope=scope_of(request.scope),
        type=type_of(request.type) or MemoryType.FACT,
        importance=request.importance if given else DEFAULT_IMPORTANCE,
        agent_id=request.agent_id,
        provenance=provenance_of(request.provenance),
        tags=tuple(dict.fromkeys(request.tags)),
        supersedes=request.supersedes_memory_id,
    )


def question_of(request: service_pb.RecallRequest) -> Question:
    """Return what is looked for."""
    types = (type_of(number) for number in request.types)
    return Question(
        text=request.query,
        agent_id=request.agent_id,
        scopes=tuple(scope_of(scope) for scope in request.scopes),
        types=tuple(dict.fromkeys(kind for kind in types if kind)),
        limit=request.limit or DEFAULT_LIMIT,
        minimum_score=request.minimum_score,
    )


def listing_of(request: service_pb.ListMemoriesRequest) -> Listing:
    """Return what is to be listed."""
    return Listing(
        agent_id=request.agent_id,
        kind=_enum(ScopeKind, pb.ScopeKind.Name(request.scope_kind)),
        scope_id=request.scope_id,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def members_of(message: pb.ScopeMembers) -> Members:
    """Return the members of a scope, each once."""
    return Members(
        scope_of(message.scope),
        message.version,
        tuple(dict.fromkeys(message.agent_ids)),
        tuple(dict.fromkeys(message.user_ids)),
    )


def members_message(members: Members) -> pb.ScopeMembers:
    """Return the members of a scope as the contract has them."""
    return pb.ScopeMembers(
        scope=scope_message(members.scope),
        version=members.version,
        agent_ids=members.agent_ids,
        user_ids=members.user_ids,
    )


def scope_of(message: pb.Scope) -> Scope:
    """Return a scope; its kind is known, as the bounds of the contract ask for it."""
    return Scope(ScopeKind(_name("SCOPE_KIND", pb.ScopeKind.Name(message.kind))), message.id)


def scope_message(scope: Scope) -> pb.Scope:
    """Return a scope as the contract has it."""
    return pb.Scope(kind=pb.ScopeKind.Value(f"SCOPE_KIND_{scope.kind.name}"), id=scope.id)


def type_of(number: pb.MemoryType.ValueType) -> MemoryType | None:
    """Return a kind of knowledge, None if it is not given."""
    return _enum(MemoryType, pb.MemoryType.Name(number))


def provenance_of(message: pb.Provenance) -> Provenance:
    """Return where a memory comes from."""
    return Provenance(
        session_id=message.session_id,
        turn_id=message.turn_id,
        task_id=message.task_id,
        memory_id=message.memory_id,
        source=message.source,
    )


def memory_message(memory: Memory) -> pb.Memory:
    """Return a memory as the contract has it."""
    source = memory.provenance
    return pb.Memory(
        memory_id=memory.id,
        text=memory.text,
        scope=scope_message(memory.scope),
        type=pb.MemoryType.Value(f"MEMORY_TYPE_{memory.type.name}"),
        importance=memory.importance,
        agent_id=memory.agent_id,
        owner_user_id=memory.owner_user_id,
        provenance=pb.Provenance(
            session_id=source.session_id,
            turn_id=source.turn_id,
            task_id=source.task_id,
            memory_id=source.memory_id,
            source=source.source,
        ),
        state=pb.MemoryState.Value(f"MEMORY_STATE_{memory.state.name}"),
        superseded_by_memory_id=memory.superseded_by,
        tags=memory.tags,
        remembered_count=memory.remembered_count,
        recalled_count=memory.recalled_count,
        embedded=memory.embedded,
        create_time=_timestamp(memory.created_at),
        last_recall_time=_timestamp(memory.last_recalled_at),
    )


def memory_of(message: pb.Memory) -> Memory:
    """Return a memory from the contract's form."""
    recalled = message.HasField("last_recall_time")
    return Memory(
        id=message.memory_id,
        text=message.text,
        scope=scope_of(message.scope),
        type=type_of(message.type) or MemoryType.FACT,
        importance=message.importance,
        agent_id=message.agent_id,
        owner_user_id=message.owner_user_id,
        provenance=provenance_of(message.provenance),
        state=MemoryState(_name("MEMORY_STATE", pb.MemoryState.Name(message.state))),
        superseded_by=message.superseded_by_memory_id,
        tags=tuple(message.tags),
        remembered_count=message.remembered_count,
        recalled_count=message.recalled_count,
        embedded=message.embedded,
        created_at=message.create_time.ToDatetime(UTC),
        last_recalled_at=message.last_recall_time.ToDatetime(UTC) if recalled else None,
    )


def page_message(page: Page) -> service_pb.ListMemoriesResponse:
    """Return a page as the contract has it."""
    return service_pb.ListMemoriesResponse(
        memories=[memory_message(memory) for memory in page.memories],
        next_page_token=page.next_page_token,
    )


def recalled_message(recalled: Recalled) -> service_pb.RecallResponse:
    """Return what was found as the contract has it."""
    return service_pb.RecallResponse(
        hits=[_hit_message(hit) for hit in recalled.hits],
        pending_embedding_count=recalled.pending_embedding_count,
    )


def _hit_message(hit: Hit) -> service_pb.RecallHit:
    return service_pb.RecallHit(
        memory=memory_message(hit.memory),
        score=hit.scores.total,
        lexical_score=hit.scores.lexical,
        vector_score=hit.scores.vector,
        recency_score=hit.scores.recency,
    )


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def _enum(kind: type[E], name: str) -> E | None:
    prefix = {MemoryType: "MEMORY_TYPE", ScopeKind: "SCOPE_KIND"}[kind]
    return None if name.endswith("_UNSPECIFIED") else kind(_name(prefix, name))


def _name(prefix: str, name: str) -> str:
    return name.removeprefix(f"{prefix}_").lower()
