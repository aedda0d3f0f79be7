"""What memory tells the mesh; the fields are those of `gathering.events.v1`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.events import DomainEvent


@dataclass(frozen=True)
class MemoryCreated(DomainEvent):
    """A memory was stored."""

    memory_id: str
    scope_kind: str
    scope_id: str
    agent_id: str
    memory_type: str
    importance: float
    content_hash: str


@dataclass(frozen=True)
class MemoryShared(DomainEvent):
    """A memory was made visible in a wider scope, by a copy."""

    memory_id: str
    scope_kind: str
    scope_id: str
    agent_id: str
    copy_memory_id: str


@dataclass(frozen=True)
class MemorySuperseded(DomainEvent):
    """A newer memory took the place of an older one."""

    memory_id: str
    by_memory_id: str


@dataclass(frozen=True)
class MemoryForgotten(DomainEvent):
    """A memory's text, postings and embedding were deleted."""

    memory_id: str


@dataclass(frozen=True)
class MemoryMerged(DomainEvent):
    """The same text was remembered again in the same scope."""

    memory_id: str
    remembered_count: int


@dataclass(frozen=True)
class ScopeMembersChanged(DomainEvent):
    """The members of a scope changed."""

    scope_kind: str
    scope_id: str
    membership_version: int
