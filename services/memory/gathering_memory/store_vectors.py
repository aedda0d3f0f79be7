"""The vectors of memories, and how often memories were recalled."""

from __future__ import annotations

from collections.abc import Collection

from gathering_memory.ports import Vector
from gathering_mesh.postgres import Transaction

_MISSING = """
select text from memory
where tenant_id = $1 and id = $2 and state = 'active' and not embedded
"""
_KEEP = """
with kept as (
    insert into embedding (tenant_id, memory_id, scope_key, embedding)
    select tenant_id, id, scope_key, $3::float4[]::vector from memory
    where tenant_id = $1 and id = $2 and state = 'active'
    on conflict (tenant_id, memory_id) do update set embedding = excluded.embedding
    returning memory_id)
update memory m set embedded = true from kept
where m.tenant_id = $1 and m.id = kept.memory_id
"""
# In the order of ids, so that two recalls of the same memories do not wait for each other.
_COUNT = """
insert into recall_stat as r (tenant_id, memory_id, recalled_count, last_recalled_at)
select tenant_id, id, 1, now() from memory
where tenant_id = $1 and id = any($2) and state = 'active' order by id
on conflict (tenant_id, memory_id) do update
set recalled_count = r.recalled_count + 1,
    last_recalled_at = greatest(r.last_recalled_at, excluded.last_recalled_at)
"""


class EmbeddingTable:
    """The vectors of memories."""

    async def missing(self, tx: Transaction, memory_id: str) -> str | None:
        """Return the text of an active memory without a vector; None: there is nothing to do."""
        text: str | None = await tx.fetch_value(_MISSING, tx.tenant, memory_id)
        return text

    async def keep(self, tx: Transaction, memory_id: str, vector: Vector) -> None:
        """Store the vector of a memory that is still active."""
        await tx.run(_KEEP, tx.tenant, memory_id, vector)


class RecallStatistics:
    """How often memories were recalled."""

    async def count(self, tx: Transaction, memory_ids: Collection[str]) -> None:
        """Count one recall of each of these."""
        await tx.run(_COUNT, tx.tenant, list(memory_ids))
