"""What a memory is, who may see it, and what a search for memories finds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

DEFAULT_IMPORTANCE = 0.5
DEFAULT_LIMIT = 10

# What the texts of one answer may hold: clients of gRPC take 4 MiB unless told otherwise.
ANSWER_BYTES = 2 * 1024 * 1024

# The kinds of work that outlive a request.
EMBED = "embed"


class MemoryState(StrEnum):
    """The life of a memory; FORGOTTEN is the end."""

    ACTIVE = "active"
    SUPERSEDED = "superseded"
    FORGOTTEN = "forgotten"


class MemoryType(StrEnum):
    """What kind of knowledge a memory is."""

    FACT = "fact"
    DECISION = "decision"
    PREFERENCE = "preference"
    EXPERIENCE = "experience"
    SKILL = "skill"
    RELATIONSHIP = "relationship"
    CONTEXT = "context"
    ERROR = "error"
    FEEDBACK = "feedback"
    LEARNING = "learning"


class ScopeKind(StrEnum):
    """Kinds of audience."""

    PRIVATE = "private"
    PERSONAL = "personal"
    CIRCLE = "circle"
    PROJECT = "project"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Scope:
    """Who may recall a memory, as callers name it.

    `id`: PRIVATE: the agent's, or empty for the user's own; PERSONAL: the agent's; CIRCLE and
    PROJECT: theirs; TENANT: empty.
    """

    kind: ScopeKind
    id: str = ""

    def key(self, user: str) -> str:
        """Return the name under which the store keeps this scope.

        `user` owns the empty PRIVATE one, and each PERSONAL one.
        """
        if self.kind is ScopeKind.PERSONAL:
            return f"{self.kind.value}/{self.id}/{user}"
        own = self.kind is ScopeKind.PRIVATE and not self.id
        return f"{self.kind.value}/{user if own else self.id}"

    @property
    def owners_alone(self) -> bool:
        """Tell whether what stands in it is read for its owner alone, also by agents."""
        return self.kind is ScopeKind.PERSONAL or self == Scope(ScopeKind.PRIVATE)


TENANT_SCOPE = Scope(ScopeKind.TENANT)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a memory comes from; empty where it is not known."""

    session_id: str = ""
    turn_id: str = ""
    task_id: str = ""
    memory_id: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Something that is known."""

    id: str
    text: str
    scope: Scope
    type: MemoryType
    importance: float
    agent_id: str
    owner_user_id: str
    provenance: Provenance
    state: MemoryState
    superseded_by: str
    tags: tuple[str, ...]
    remembered_count: int
    recalled_count: int
    embedded: bool
    created_at: datetime
    last_recalled_at: datetime | None

    @property
    def scope_key(self) -> str:
        """Return the name under which the store keeps its scope."""
        return self.scope.key(self.owner_user_id)


@dataclass(frozen=True, slots=True)
class Draft:
    """A memory to be stored."""

    text: str
    scope: Scope
    type: MemoryType = MemoryType.FACT
    importance: float = DEFAULT_IMPORTANCE
    agent_id: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    tags: tuple[str, ...] = ()
    supersedes: str = ""


def content_hash(text: str) -> str:
    """Return what tells equal texts: SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reader:
    """As whom memories are read: an agent, or a user when `agent_id` is empty.

    `as_agent` is false for those who find, of what an agent may read, only what they may read
    themselves.
    """

    user: str
    agent_id: str
    as_agent: bool

    @property
    def member_id(self) -> str:
        """Return the id by which circles and projects know the reader."""
        return self.agent_id or self.user


@dataclass(frozen=True, slots=True)
class Question:
    """A search for memories."""

    text: str
    agent_id: str = ""
    scopes: tuple[Scope, ...] = ()
    types: tuple[MemoryType, ...] = ()
    limit: int = DEFAULT_LIMIT
    minimum_score: float = 0.0


@dataclass(frozen=True, slots=True)
class Reach:
    """Which memories a search covers.

    `closed`: those of the scopes in which only memories of `owner` are covered.
    """

    scope_keys: tuple[str, ...]
    types: tuple[str, ...] = ()
    owner: str = ""
    closed: tuple[str, ...] = ()

    @property
    def filtered(self) -> bool:
        """Tell whether the scopes alone do not decide."""
        return bool(self.types or self.closed)


@dataclass(frozen=True, slots=True)
class ScopeSize:
    """How much the searched scopes hold: memories, and terms in all of them."""

    document_count: int
    total_length: int

    @property
    def average_length(self) -> float:
        """Return the mean number of terms, 1 for nothing."""
        return self.total_length / self.document_count if self.document_count else 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the fusion needs to know of a memory; scores are raw, None where a stage missed it."""

    id: str
    created_at: datetime
    importance: float
    session_id: str
    lexical: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its relevance and its normalised scores, each 0 to 1."""

    candidate: Candidate
    relevance: float
    lexical: float
    vector: float


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a memory fits, each 0 to 1: in all, by words, by meaning, by its age."""

    total: float
    lexical: float
    vector: float
    recency: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that fits."""

    memory: Memory
    scores: Scores


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a search found, and how many memories it could search by words only."""

    hits: tuple[Hit, ...]
    pending_embedding_count: int


@dataclass(frozen=True, slots=True)
class Members:
    """Who belongs to a circle or project, at a version."""

    scope: Scope
    version: int
    agent_ids: tuple[str, ...]
    user_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed; empty fields do not restrict. `after` is the last id of the page before."""

    agent_id: str = ""
    kind: ScopeKind | None = None
    scope_id: str = ""
    page_size: int = 0
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """Which memories a user may list: all, or their own and those of scopes they belong to."""

    user: str
    everything: bool
    scope_keys: tuple[str, ...]


def answerable(memories: Sequence[Memory]) -> int:
    """Return how many of these, from the first, one answer holds; at least one."""
    left = ANSWER_BYTES
    for count, memory in enumerate(memories):
        left -= len(memory.text.encode())
        if left < 0:
            return max(1, count)
    return len(memories)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of memories; an empty token on the last."""

    memories: Sequence[Memory]
    next_page_token: str
