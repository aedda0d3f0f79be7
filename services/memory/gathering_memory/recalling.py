"""Find the memories that fit a question: by words, by meaning, by what stands beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gathering_memory import access, ranking, words
from gathering_memory.errors import NoText
from gathering_memory.models import Hit, Question, Ranked, Reach, Recalled, ScopeSize, answerable
from gathering_memory.models_tuning import COMMON, LENDERS
from gathering_memory.ports import (
    Candidates,
    Embedder,
    Memberships,
    Memories,
    Search,
    Vector,
)
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction

_LONGEST_QUERY_TERMS = 200  # distinct ones that are counted; the rarest of them are looked up

_ASKERS = 10_000  # that are known to have memories at once

Counted = Callable[[str, Collection[str]], Awaitable[None]]
Asker = tuple[str, str, str]  # tenant, user, agent


class Filled:
    """Who had memories when they last asked; only the order of work depends on it."""

    def __init__(self) -> None:
        self._askers: dict[Asker, None] = {}

    def __contains__(self, asker: Asker) -> bool:
        return asker in self._askers

    def note(self, asker: Asker, size: ScopeSize) -> None:
        """Remember it, and forget the oldest where there are too many."""
        self._askers.pop(asker, None)
        if size.document_count:
            self._askers[asker] = None
        while len(self._askers) > _ASKERS:
            self._askers.pop(next(iter(self._askers)))


@dataclass(frozen=True, slots=True)
class Recalling:
    """The verb that searches memories; `counted` is told tenant and ids of what was recalled."""

    db: Database
    memories: Memories
    memberships: Memberships
    search: Search
    candidates: Candidates
    embedder: Embedder
    counted: Counted
    filled: Filled = field(default_factory=Filled)

    async def recall(self, call: Call, question: Question) -> Recalled:
        """Return the memories that fit best."""
        if not question.text.strip():
            raise NoText("query")
        asker = (call.tenant, call.user, question.agent_id)
        if asker not in self.filled and not await self._holds(call, question, asker):
            return Recalled((), 0)  # to embed the question would be most of the work
        vector = await self.embedder.query(question.text)  # before a connection is taken
        async with self.db.transaction(call) as tx:
            reach = await self._reach(tx, call, question)
            size, pending = await self.search.size(tx, reach)
            self.filled.note(asker, size)
            found = await self._found(tx, reach, size, question.text, vector)
            hits = await self._hits(tx, question, found)
        if hits:
            await self.counted(call.tenant, [hit.memory.id for hit in hits])
        return Recalled(hits, pending)

    async def _holds(self, call: Call, question: Question, asker: Asker) -> bool:
        """Tell whether there is anything to search, embedded or not."""
        async with self.db.transaction(call) as tx:
            size, pending = await self.search.size(tx, await self._reach(tx, call, question))
        self.filled.note(asker, size)
        return bool(size.document_count or pending)

    async def _reach(self, tx: Transaction, call: Call, question: Question) -> Reach:
        who = access.reader(call, question.agent_id)
        member_of, of_user = await self.memberships.scopes_of(tx, who.member_id, who.user)
        administrator = access.is_administrator(call)
        types = tuple(kind.value for kind in question.types)
        return access.readable(
            who, question.scopes, member_of, of_user, types=types, administrator=administrator
        )

    async def _found(
        self, tx: Transaction, reach: Reach, size: ScopeSize, query: str, vector: Vector | None
    ) -> list[Ranked]:
        if not size.document_count:
            return []
        lexical = await self._by_words(tx, reach, size, query)
        near = await self.search.by_meaning(tx, reach, vector, size) if vector is not None else []
        found = await self.candidates.details(tx, lexical, near, vector)
        ranked = ranking.fuse(found, with_vectors=vector is not None)
        lenders = [hit.candidate for hit in ranked[:LENDERS]]
        return ranking.lend(ranked, await self.candidates.beside(tx, reach, lenders))

    async def _by_words(
        self, tx: Transaction, reach: Reach, size: ScopeSize, query: str
    ) -> dict[str, float]:
        terms = list(dict.fromkeys(words.terms(query)))[:_LONGEST_QUERY_TERMS]
        containing = await self.search.containing(tx, reach, terms, COMMON)
        weights = ranking.term_weights(size, containing)
        return await self.search.by_words(tx, reach, weights, size) if weights else {}

    async def _hits(
        self, tx: Transaction, question: Question, found: Iterable[Ranked]
    ) -> tuple[Hit, ...]:
        now = datetime.now(UTC)
        scored = [(hit.candidate.id, ranking.scores(hit, now)) for hit in found]
        scored.sort(key=lambda pair: (pair[1].total, pair[0]), reverse=True)
        best = [
            (memory_id, scores)
            for memory_id, scores in scored[: question.limit]
            if scores.total > 0 and scores.total >= question.minimum_score
        ]
        memories = await self.memories.many(tx, [memory_id for memory_id, _ in best])
        hits = tuple(Hit(memories[i], scores) for i, scores in best if i in memories)
        return hits[: answerable([hit.memory for hit in hits])]
