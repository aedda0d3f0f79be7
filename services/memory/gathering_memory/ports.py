"""What the verbs need of the store and of the embedder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from gathering_memory.models import (
    Candidate,
    Draft,
    Listing,
    Members,
    Memory,
    MemoryState,
    Reach,
    Scope,
    ScopeSize,
    View,
)
from gathering_mesh.postgres import Transaction

Vector = Sequence[float]


class Memories(Protocol):
    """The memories of a tenant, for reading."""

    async def find(self, tx: Transaction, memory_id: str) -> Memory | None:
        """Return a memory, forgotten or not; None if there never was one."""

    async def many(self, tx: Transaction, memory_ids: Sequence[str]) -> dict[str, Memory]:
        """Return the active ones among these, by id."""

    async def page(
        self, tx: Transaction, view: View, listing: Listing, after: str, limit: int
    ) -> list[Memory]:
        """Return memories below the id `after` (empty: from the newest), newest first."""


class Writes(Protocol):
    """Changes of memories. `lock` comes first, so that writers of one scope come in line."""

    async def lock(self, tx: Transaction, scope_key: str) -> None:
        """Hold the scope until the end of the transaction."""

    async def state(self, tx: Transaction, memory_id: str) -> MemoryState:
        """Return a memory's present state and keep it so until the end of the transaction."""

    async def add(
        self, tx: Transaction, memory_id: str, owner: str, draft: Draft, terms: Mapping[str, int]
    ) -> tuple[str, int]:
        """Store a memory; return its id, or that of the same text there, and its count."""

    async def supersede(self, tx: Transaction, memory: Memory, by: str) -> None:
        """Take an active memory out of recall and keep it."""

    async def forget(self, tx: Transaction, memory: Memory) -> None:
        """Delete all that a memory says."""


class Shares(Protocol):
    """Which copy of a memory stands in which scope."""

    async def copy_of(self, tx: Transaction, memory_id: str, scope_key: str) -> str | None:
        """Return the id of the copy in a scope."""

    async def keep(self, tx: Transaction, memory_id: str, scope_key: str, copy: str) -> None:
        """Note the copy, in place of an older one."""


class Memberships(Protocol):
    """Who belongs to which scope, as the orchestrator told."""

    async def scopes_of(self, tx: Transaction, *member_ids: str) -> Sequence[frozenset[str]]:
        """Return for each of these the keys of the scopes to which it belongs."""

    async def find(self, tx: Transaction, scope: Scope) -> Members | None:
        """Return the members of a scope, None if they were never told."""

    async def replace(self, tx: Transaction, members: Members) -> bool:
        """Take newer members; False where the known version is not older."""


class Search(Protocol):
    """The stages of a recall."""

    async def size(self, tx: Transaction, reach: Reach) -> tuple[ScopeSize, int]:
        """Return what the scopes hold, and how many of it waits for its embedding."""

    async def containing(
        self, tx: Transaction, reach: Reach, terms: Collection[str], most: int
    ) -> dict[str, int]:
        """Return in how many memories of the scopes each term stands, counted up to `most`."""

    async def by_words(
        self, tx: Transaction, reach: Reach, weights: Mapping[str, float], size: ScopeSize
    ) -> dict[str, float]:
        """Return the memories with the best BM25 scores."""

    async def by_meaning(
        self, tx: Transaction, reach: Reach, vector: Vector, size: ScopeSize
    ) -> list[str]:
        """Return the memories nearest to a vector."""


class Candidates(Protocol):
    """What the fusion needs to know of memories."""

    async def details(
        self,
        tx: Transaction,
        lexical: Mapping[str, float],
        ids: Iterable[str],
        vector: Vector | None,
    ) -> list[Candidate]:
        """Return the active ones among these, with their cosine where a vector is given."""

    async def beside(
        self, tx: Transaction, reach: Reach, lenders: Sequence[Candidate]
    ) -> list[tuple[str, Candidate]]:
        """Return what comes right before and after these in their sessions, with their ids."""


class Embeddings(Protocol):
    """The vectors of memories."""

    async def missing(self, tx: Transaction, memory_id: str) -> str | None:
        """Return the text of an active memory without a vector; None: there is nothing to do."""

    async def keep(self, tx: Transaction, memory_id: str, vector: Vector) -> None:
        """Store the vector of a memory that is still active."""


class Statistics(Protocol):
    """How often memories were recalled."""

    async def count(self, tx: Transaction, memory_ids: Collection[str]) -> None:
        """Count one recall of each of these."""


class Embedder(Protocol):
    """Turns text into vectors of unit length, off the event loop."""

    async def query(self, text: str) -> Vector | None:
        """Return the vector of a question at once; None while there is no model."""

    async def document(self, text: str) -> Vector:
        """Return the vector of a memory, in a batch with others."""
