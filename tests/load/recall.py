"""Recall over 10,000 memories, beside the raw statements that a vector search needs."""

from __future__ import annotations

import os
import random
import uuid

import asyncpg
import numpy as np

from gathering.memory.v1 import memory_service_pb2 as pb
from gathering_memory import words
from gathering_memory.models import Scope, ScopeKind
from gathering_memory.provider_minilm import DIMENSIONS, MODEL, MiniLm
from gathering_memory.settings import MemorySettings
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database
from tests.load.happenings import writer
from tests.load.plan import Plan
from tests.load.report import Row, rows
from tests.load.system import System, raw
from tests.load.timing import Side, compare, loop

RECALL = "/gathering.memory.v1.MemoryService/Recall"
_MEMORIES, _BATCH, _HITS = 10_000, 1_000, 10
_WORDS = (
    *("deploy", "postgres", "review", "garden", "invoice", "latency", "berlin", "kettle"),
    *("schema", "piano", "cluster", "harbour", "ticket", "compiler", "violet", "engine"),
)
_ADD = """
with added as (
    insert into memory (tenant_id, id, text, content_hash, scope_kind, scope_id, scope_key, type,
        importance, agent_id, owner_user_id, session_id, turn_id, task_id, source_memory_id,
        source, tags, length, embedded)
    select $1, m.id, m.text, sha256(convert_to(m.text, 'UTF8')), $2, '', $3, 'fact', 0.5, '', $4,
        '', '', '', '', '', '{}', 8, true
    from unnest($5::text[], $6::text[]) as m (id, text) returning 1)
insert into scope_stats as s (tenant_id, scope_key, document_count, total_length)
select $1, $3, count(*), 8 * count(*) from added
on conflict (tenant_id, scope_key) do update set
    document_count = s.document_count + excluded.document_count,
    total_length = s.total_length + excluded.total_length
"""
_POST = """
insert into posting (tenant_id, scope_key, term, memory_id, tf, length)
select $1, $2, p.term, p.id, 1, 8 from unnest($3::text[], $4::text[]) as p (term, id)
"""
_EMBED = """
insert into embedding (tenant_id, memory_id, scope_key, embedding)
select $1, e.id, $2, e.vector::vector from unnest($3::text[], $4::text[]) as e (id, vector)
"""
_NEAR = """
select memory_id from memory.embedding where tenant_id = $1
order by (embedding operator(extensions.<=>) (select $2::text::extensions.vector)) + 0 limit $3
"""
_ROWS = "select * from memory.memory where tenant_id = $1 and id = any($2)"
_BASES = 500  # texts that are embedded; the others lie around them
_STATEMENTS = "the question embedded, nearest vectors and rows by SQL"
_ARRAYS = "the question embedded, numpy over all vectors"
_QUESTIONS = [f"what about the {a} and the {b}" for a, b in zip(_WORDS, _WORDS[::-1], strict=True)]


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return the figures of one recall at a time."""
    count = plan.count(_MEMORIES)
    tenant = await system.tenant()
    model = MiniLm(MemorySettings().models_dir / MODEL, threads=1)
    vectors = await _fill(system, tenant, count, model)
    connection = await _connect(system)
    matrix = np.array(list(vectors.values()), dtype=np.float32)
    send = raw(system.channel, RECALL, await system.metadata())
    questions = iter(_QUESTIONS * 10_000)

    async def ours(_: int) -> None:
        request = pb.RecallRequest(query=f"{next(questions)} {uuid.uuid4().hex[:4]}", limit=_HITS)
        found = pb.RecallResponse.FromString(await send(request.SerializeToString()))
        if len(found.hits) != _HITS:
            raise RuntimeError(f"{len(found.hits)} hits")

    async def statements(_: int) -> None:
        vector = str(model.encode([next(questions)])[0])
        near = await connection.fetch(_NEAR, tenant, vector, _HITS)
        await connection.fetch(_ROWS, tenant, [row["memory_id"] for row in near])

    async def arrays(_: int) -> None:
        vector = np.array(model.encode([next(questions)])[0], dtype=np.float32)
        np.argpartition(matrix @ vector, -_HITS)[-_HITS:]

    times, own = plan.count(60), os.getpid()
    sides = {
        "ours": Side(loop(ours, times), system.pids),
        "statements": Side(loop(statements, times), [own, *system.pids("postgres")]),
        "arrays": Side(loop(arrays, times), [own]),
    }
    try:
        took = await compare(sides, plan.rounds)
    finally:
        await connection.close()
    figure = f"{count} memories"
    return [
        *rows("recall", figure, took["ours"], took["statements"], _STATEMENTS),
        *rows("recall", figure, took["ours"], took["arrays"], _ARRAYS, only="ms p50"),
    ]


async def _connect(system: System) -> asyncpg.Connection[asyncpg.Record]:
    url = system.mesh.environment_of("memory")["GATHERING_DATABASE_URL"]
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    await connection.execute("select set_config('app.tenant', $1, false)", await system.tenant())
    return connection


async def _fill(system: System, tenant: str, count: int, model: MiniLm) -> dict[str, list[float]]:
    """Store memories of the tenant, as their service would, and return their vectors."""
    choose = random.Random(1)  # noqa: S311 (the same texts in each run)
    texts = {
        new_id("mem"): f"{' '.join(choose.sample(_WORDS, 3))} number {number}"
        for number in range(count)
    }
    ids = list(texts)
    bases = np.array(model.encode([texts[each] for each in ids[:_BASES]]), dtype=np.float32)
    noise = np.random.default_rng(1)
    made = bases[[number % len(bases) for number in range(count)]]
    made = made + noise.normal(0, 0.02, (count, DIMENSIONS)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    vectors = dict(zip(ids, made.tolist(), strict=True))
    async with writer(system) as db:
        for start in range(0, count, _BATCH):
            batch = ids[start : start + _BATCH]
            await _store(db, tenant, await system.user(), {each: texts[each] for each in batch})
            await _embed(db, tenant, {each: vectors[each] for each in batch})
    return vectors


async def _store(db: Database, tenant: str, user: str, texts: dict[str, str]) -> None:
    scope = Scope(ScopeKind.TENANT)
    key = scope.key(user)
    pairs = [(term, each) for each, text in texts.items() for term in set(words.terms(text))]
    async with db.transaction(tenant) as tx:
        await tx.run(_ADD, tenant, scope.kind.value, key, user, list(texts), list(texts.values()))
        await tx.run(_POST, tenant, key, [term for term, _ in pairs], [each for _, each in pairs])


async def _embed(db: Database, tenant: str, vectors: dict[str, list[float]]) -> None:
    key = Scope(ScopeKind.TENANT).key("")
    async with db.transaction(tenant) as tx:
        await tx.run(_EMBED, tenant, key, list(vectors), [str(each) for each in vectors.values()])
