"""Load a tenant's memories with synthetic vectors, faster than any RPC could."""

from __future__ import annotations

import io
from dataclasses import dataclass

import asyncpg
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
DIMENSIONS = 384
_INDEX = "embedding_near"
_MEMORIES = """
insert into memory.memory (tenant_id, id, text, content_hash, scope_kind, scope_id, scope_key, type,
    importance, agent_id, owner_user_id, session_id, turn_id, task_id, source_memory_id, source,
    tags, length, embedded)
select $1, 'mem_' || lpad(to_hex(n), 32, '0'), 'common part' || n || ' tail' || n % 50,
    md5(n::text),
    'tenant', '', 'tenant/', 'fact', 0.5, '', 'usr_bulk', '', '', '', '', '', '{}', 3, true
from generate_series(1, $2) n
"""
_POSTINGS = """
insert into memory.posting (tenant_id, scope_key, term, memory_id, tf, length)
select $1, 'tenant/', term, 'mem_' || lpad(to_hex(n), 32, '0'), 1, 3
from generate_series(1, $2) n, unnest(array['common', 'part' || n, 'tail' || n % 50]) term
"""
_STATS = "insert into memory.scope_stats values ($1, 'tenant/', $2::int, 3 * $2::int)"


@dataclass(frozen=True)
class Corpus:
    """Vectors of a tenant's memories, row n being that of memory n + 1, and of questions."""

    documents: Vectors
    questions: Vectors

    def nearest(self, question: int, count: int) -> set[str]:
        """Return the ids of the memories that are truly nearest to a question."""
        similar = self.documents @ self.questions[question]
        return {memory_id(int(row) + 1) for row in np.argsort(-similar)[:count]}


def memory_id(number: int) -> str:
    """Return the id of memory number n."""
    return f"mem_{number:032x}"


def corpus(count: int, questions: int, seed: int) -> Corpus:
    """Return clustered unit vectors; the questions lie in the same clusters."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((100, DIMENSIONS), dtype=np.float32)

    def drawn(number: int) -> Vectors:
        noise = random.standard_normal((number, DIMENSIONS), dtype=np.float32)
        made = centres[random.integers(0, len(centres), number)] + 0.8 * noise
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)

    return Corpus(drawn(count), drawn(questions))


async def load(admin: asyncpg.Connection, tenant: str, vectors: Vectors) -> None:
    """Store memories of the tenant's scope, with postings and vectors; the index is built anew."""
    definition = await admin.fetchval("select pg_get_indexdef($1::regclass)", f"memory.{_INDEX}")
    await admin.execute(f"drop index memory.{_INDEX}")
    async with admin.transaction():
        # References are ours to keep here; checking 240,000 of them takes longer than the rest.
        await admin.execute("set local session_replication_role = replica")
        for statement in (_MEMORIES, _POSTINGS, _STATS):
            await admin.execute(statement, tenant, len(vectors))
        await admin.copy_to_table(
            "embedding",
            schema_name="memory",
            columns=("tenant_id", "memory_id", "scope_key", "embedding"),
            source=io.BytesIO(_binary(tenant, vectors)),
            format="binary",
        )
    await admin.execute("set maintenance_work_mem = '512MB'")
    await admin.execute(definition)


def _binary(tenant: str, vectors: Vectors) -> bytes:
    """Return the rows as COPY reads them in binary: all fields have the same length in all rows."""
    scope, named = b"tenant/", tenant.encode()
    fields: list[tuple[str, str, int]] = [
        ("tenant", f"S{len(named)}", len(named)),
        ("id", "S36", 36),
        ("scope", f"S{len(scope)}", len(scope)),
        ("vector", f"({2 * DIMENSIONS + 2},)>i2", 4 * DIMENSIONS + 4),
    ]
    layout: list[tuple[str, str]] = [("count", ">i2")]
    for name, kind, _ in fields:
        layout += [(f"{name}_length", ">i4"), (name, kind)]
    rows = np.zeros(len(vectors), dtype=np.dtype(layout))
    rows["count"] = len(fields)
    for name, _, length in fields:
        rows[f"{name}_length"] = length
    rows["tenant"], rows["scope"] = named, scope
    rows["id"] = [memory_id(n + 1).encode() for n in range(len(vectors))]
    rows["vector"][:, 0] = DIMENSIONS
    rows["vector"][:, 2:] = np.ascontiguousarray(vectors.astype(">f4")).view(">i2")
    header = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    return header + rows.tobytes() + b"\xff\xff"
