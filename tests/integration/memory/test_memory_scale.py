"""A small tenant beside a large one: recall against the exact answer, which no one else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.integration.memory.bulk import Corpus, corpus, load, memory_id
from tests.integration.memory.callers import Caller
from tests.integration.memory.conftest import serving
from tests.support.postgres import TestDatabase

SMALL, LARGE, QUESTIONS = 300, 15_000, 15


class Questions:
    """An embedder that knows the vectors of its questions: `<corpus>?<number>`."""

    def __init__(self, **known: Corpus) -> None:
        self.ready = asyncio.Event()
        self._known = known

    async def query(self, text: str) -> Sequence[float] | None:
        """Return the vector of a question."""
        name, _, number = text.split()[0].partition("?")
        vector: list[float] = self._known[name].questions[int(number)].tolist()
        return vector

    async def document(self, text: str) -> Sequence[float]:
        """Embed nothing: all memories of these tests come with their vectors."""
        raise NotImplementedError(text)

    async def run(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Hold nothing."""


async def _recall_at_10(caller: Caller, name: str, known: Corpus) -> float:
    hits = 0
    for number in range(QUESTIONS):
        found = (await caller.hits(f"{name}?{number}")).hits
        ids = {hit.memory.memory_id for hit in found}
        hits += len(ids & known.nearest(number, 10))
    return hits / (10 * QUESTIONS)


@pytest.mark.timeout(180)
async def test_small_tenant_beside_a_large_one_recalls_as_well_as_alone(
    database: TestDatabase,
) -> None:
    await compared(database, LARGE)  # the soak has four times as many


async def compared(database: TestDatabase, size: int) -> None:
    """Recall in a small tenant beside a large one of so many memories, and in that one."""
    small, large = corpus(SMALL, QUESTIONS, 1), corpus(size, QUESTIONS, 2)
    async with serving(database, Questions(small=small, large=large)) as service:
        few, many = service.caller(), service.caller()
        async with database.server.admin(database.name) as admin:
            await load(admin, few.tenant, small.documents)
            alone = await _recall_at_10(few, "small", small)
            await load(admin, many.tenant, large.documents)
            assert alone == 1.0
            # With what the planner believed before, and with what it knows after.
            assert await _recall_at_10(few, "small", small) == alone
            await _words_are_found(few, many)
            await admin.execute("analyze")
            assert await _recall_at_10(few, "small", small) == alone
            assert await _recall_at_10(many, "large", large) >= 0.95
            await _words_are_found(few, many)


async def _words_are_found(few: Caller, many: Caller) -> None:
    """A term of one memory is found among all, whatever common terms stand beside it."""
    for caller, number in ((many, 13_210), (few, 210)):
        name = "large" if caller is many else "small"
        found = (await caller.hits(f"{name}?0 common part{number} tail{number % 50}")).hits
        assert [h.lexical_score for h in found if h.memory.memory_id == memory_id(number)] == [1]
