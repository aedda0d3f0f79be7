"""Found by meaning after embedding, also beside words; waiting without a model; kill -9."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import asyncpg

from gathering.memory.v1 import memory_pb2 as pb
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import TENANT, Service
from tests.integration.memory.conftest import serving
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually


async def test_memory_is_found_by_its_meaning_once_embedded(service: Service) -> None:
    ada = service.caller()
    dog = await ada.remember("Our puppy chews on shoes")
    await ada.embedded(dog, await ada.remember("The quarterly report is overdue"))
    found = await ada.hits("which pet do they have?")
    assert found.hits[0].memory.memory_id == dog.memory_id
    assert found.pending_embedding_count == 0
    assert found.hits[0].vector_score == 1 and found.hits[0].lexical_score == 0


async def test_scores_of_stages_are_told_and_lie_between_0_and_1(service: Service) -> None:
    ada = service.caller()
    texts = ["The cache expires after an hour", "Redis holds the cache", "Lunch is at noon"]
    await ada.embedded(*[await ada.remember(text) for text in texts])
    found = (await ada.hits("when does the cache expire?")).hits
    assert found[0].memory.text == texts[0]
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    for hit in found:
        parts = (hit.score, hit.lexical_score, hit.vector_score, hit.recency_score)
        assert all(0 <= part <= 1 for part in parts)
    best = found[0].score * 0.999  # it ages while we look
    assert len((await ada.hits("when does the cache expire?", minimum_score=best)).hits) == 1
    assert len((await ada.hits("when does the cache expire?", limit=2)).hits) == 2


async def test_type_restricts_both_stages(service: Service) -> None:
    ada = service.caller()
    fact = await ada.remember("The parser is written in Rust")
    wish = await ada.remember("Prefer the parser in C", type=pb.MEMORY_TYPE_PREFERENCE)
    await ada.embedded(fact, wish)
    found = await ada.recall("parser language", types=[pb.MEMORY_TYPE_PREFERENCE])
    assert found == ["Prefer the parser in C"]


async def test_memories_beside_a_hit_in_its_session_come_with_it(service: Service) -> None:
    ada, session = service.caller(), new_id("ses")
    provenance = pb.Provenance(session_id=session)
    said = ["Good morning", "Where do you go for the holidays?", "To the north", "What a pity"]
    memories = [await ada.remember(text, provenance=provenance) for text in said]
    fillers = [await ada.remember(f"The sum of {n} and {n} is {n + n}") for n in range(30)]
    await ada.embedded(*memories, *fillers)
    found = await ada.recall("holidays", limit=3)
    assert found[0] == said[1] and set(found[1:]) == {said[0], said[2]}


async def test_forgotten_and_superseded_memories_have_no_vector(service: Service) -> None:
    ada = service.caller()
    first = await ada.remember("The harbour is frozen")
    await ada.embedded(first)
    second = await ada.remember("The harbour is open", supersedes_memory_id=first.memory_id)
    await ada.embedded(second)
    await ada.forget(second.memory_id)
    assert await ada.recall("can ships enter the port?") == []
    async with service.database.server.admin(service.database.name) as admin:
        assert not await admin.fetchval("select count(*) from memory.embedding")


async def test_without_a_model_words_are_searched_and_vectors_wait(
    database: TestDatabase, models: Path, tmp_path: Path
) -> None:
    async with serving(database, tmp_path) as service:
        ada = service.caller()
        dog = await ada.remember("Our puppy chews on shoes")
        found = await ada.hits("puppy")
        assert [hit.memory.memory_id for hit in found.hits] == [dog.memory_id]
        assert found.pending_embedding_count == 1
        assert (await ada.hits("which pet do they have?")).hits == []
        (tmp_path / "all-minilm-l6-v2").symlink_to(models / "all-minilm-l6-v2")  # set-up came late
        await ada.embedded(dog)
        assert await ada.recall("which pet do they have?") == ["Our puppy chews on shoes"]


_PROCESS = [sys.executable, "-m", "tests.integration.memory.process"]


async def test_embedding_goes_on_after_kill_9(database: TestDatabase, models: Path) -> None:
    texts = [f"Memory {n} about the weather in city {n}" for n in range(300)]
    process = await asyncio.create_subprocess_exec(
        *_PROCESS, database.app("memory"), database.system("memory"), str(models), *texts,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    admin = await asyncpg.connect(database.admin)
    try:
        await eventually(lambda: _some(admin, 1), "the first vectors are there", 40)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        before = await admin.fetchval("select count(*) from memory.embedding")
        assert await admin.fetchval("select count(*) from memory.memory") == len(texts)
        assert before < len(texts)
        assert await admin.fetchval("select count(*) from memory.work where owner is not null")
        async with serving(database, models):
            await eventually(lambda: _some(admin, len(texts)), "all have vectors", 40)
            await eventually(lambda: _idle(admin), "no work is left")
        assert not await admin.fetchval("select count(*) from memory.memory where not embedded")
    finally:
        await admin.close()


async def _some(admin: asyncpg.Connection, count: int) -> bool:
    return bool(await admin.fetchval("select count(*) >= $1 from memory.embedding", count))


async def _idle(admin: asyncpg.Connection) -> bool:
    return not await admin.fetchval("select count(*) from memory.work")


async def test_recall_waits_for_no_batch_of_memories(service: Service) -> None:
    ada = service.caller()
    text = " ".join(["long"] * 300)
    for number in range(60):
        await ada.remember(f"{text} {number}", TENANT)
    async with asyncio.timeout(2):
        assert (await ada.hits("long")).hits
