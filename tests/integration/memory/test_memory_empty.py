"""A recall where nothing can be found does not embed its question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gathering_memory.provider_minilm import DIMENSIONS
from tests.integration.memory.conftest import serving
from tests.support.postgres import TestDatabase


class Asked:
    """An embedder for which all texts are the same; `questions` are those that it was asked."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.questions: list[str] = []

    async def query(self, text: str) -> Sequence[float] | None:
        """Return the one vector."""
        self.questions.append(text)
        return await self.document(text)

    async def document(self, text: str) -> Sequence[float]:
        """Return the one vector."""
        return [1.0] + [0.0] * (DIMENSIONS - 1)

    async def run(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Hold nothing."""


async def test_question_is_embedded_only_where_there_is_something_to_find(
    database: TestDatabase,
) -> None:
    embedder = Asked()
    async with serving(database, embedder) as service:
        caller, other = service.caller(), service.caller()
        assert not (await caller.hits("what was first?")).hits
        await caller.remember("the harbour opens at six")
        assert not (await other.hits("what has another tenant?")).hits
        assert embedder.questions == []
        for question in ("when does the harbour open?", "and again?"):
            assert question not in embedder.questions
            await caller.hits(question)
            assert embedder.questions[-1] == question
        assert len((await caller.hits("harbour")).hits) == 1
