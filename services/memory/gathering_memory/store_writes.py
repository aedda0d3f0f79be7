"""Memories as rows: changes, in an order that cannot deadlock (scope, work, memory)."""

from __future__ import annotations

from collections.abc import Mapping

from gathering_memory.models import Draft, Memory, MemoryState, content_hash
from gathering_mesh.postgres import Transaction

_LOCK = "select 1 from scope_stats where tenant_id = $1 and scope_key = $2 for no key update"
_OPEN = "insert into scope_stats (tenant_id, scope_key) values ($1, $2) on conflict do nothing"
_STATE = "select state from memory where tenant_id = $1 and id = $2 for no key update"
_ADD = """
insert into memory as m (tenant_id, id, text, content_hash, scope_kind, scope_id, scope_key, type,
    importance, agent_id, owner_user_id, session_id, turn_id, task_id, source_memory_id, source,
    tags, length)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
on conflict (tenant_id, scope_key, content_hash,
    (case scope_kind when 'private' then owner_user_id else '' end)) where state = 'active'
do update set remembered_count = m.remembered_count + 1
returning id, remembered_count
"""
_POST = """
insert into posting (tenant_id, scope_key, term, memory_id, tf, length)
select $1, $2, p.term, $3, p.tf, $6
from unnest($4::text[], $5::int[]) as p (term, tf) order by p.term
"""
_GROW = """
update scope_stats set document_count = document_count + 1, total_length = total_length + $3
where tenant_id = $1 and scope_key = $2
"""
_SHRINK = """
update scope_stats s
set document_count = document_count - 1, total_length = total_length - m.length
from memory m where m.tenant_id = $1 and m.id = $3 and s.tenant_id = $1 and s.scope_key = $2
"""
_REMOVE = (
    "delete from posting where tenant_id = $1 and memory_id = $2",
    "delete from embedding where tenant_id = $1 and memory_id = $2",
)
_SUPERSEDE = """
update memory set state = 'superseded', superseded_by = $3, embedded = false
where tenant_id = $1 and id = $2
"""
_FORGET = """
update memory set state = 'forgotten', text = '', content_hash = null, tags = '{}', length = 0,
    session_id = '', turn_id = '', task_id = '', source_memory_id = '', source = '',
    embedded = false
where tenant_id = $1 and id = $2
"""
_FORGET_STATISTICS = "delete from recall_stat where tenant_id = $1 and memory_id = $2"
_COPY_OF = """
select memory_id from share where tenant_id = $1 and source_memory_id = $2 and scope_key = $3
"""
_KEEP_COPY = """
insert into share (tenant_id, source_memory_id, scope_key, memory_id) values ($1, $2, $3, $4)
on conflict (tenant_id, source_memory_id, scope_key) do update set memory_id = excluded.memory_id
"""


class MemoryWrites:
    """Changes of memories."""

    async def lock(self, tx: Transaction, scope_key: str) -> None:
        """Hold the scope until the end of the transaction."""
        while not await tx.fetch_value(_LOCK, tx.tenant, scope_key):
            await tx.run(_OPEN, tx.tenant, scope_key)

    async def state(self, tx: Transaction, memory_id: str) -> MemoryState:
        """Return a memory's present state and keep it so until the end of the transaction."""
        return MemoryState(await tx.fetch_value(_STATE, tx.tenant, memory_id))

    async def add(
        self, tx: Transaction, memory_id: str, owner: str, draft: Draft, terms: Mapping[str, int]
    ) -> tuple[str, int]:
        """Store a memory; return its id, or that of the same text there, and its count."""
        length = sum(terms.values())
        row = await tx.fetch_one(_ADD, *_values(tx.tenant, memory_id, owner, draft), length)
        if row is None:
            raise RuntimeError("an upsert returned no row")
        if row["id"] == memory_id:
            key = draft.scope.key(owner)
            await tx.run(
                _POST, tx.tenant, key, memory_id, list(terms), list(terms.values()), length
            )
            await tx.run(_GROW, tx.tenant, key, length)
        return row["id"], row["remembered_count"]

    async def supersede(self, tx: Transaction, memory: Memory, by: str) -> None:
        """Take an active memory out of recall and keep it."""
        await self._withdraw(tx, memory)
        await tx.run(_SUPERSEDE, tx.tenant, memory.id, by)

    async def forget(self, tx: Transaction, memory: Memory) -> None:
        """Delete all that a memory says."""
        if memory.state is MemoryState.ACTIVE:
            await self._withdraw(tx, memory)
        await tx.run(_FORGET, tx.tenant, memory.id)
        await tx.run(_FORGET_STATISTICS, tx.tenant, memory.id)

    async def _withdraw(self, tx: Transaction, memory: Memory) -> None:
        await tx.run(_SHRINK, tx.tenant, memory.scope_key, memory.id)
        for statement in _REMOVE:
            await tx.run(statement, tx.tenant, memory.id)


class ShareTable:
    """Which copy of a memory stands in which scope."""

    async def copy_of(self, tx: Transaction, memory_id: str, scope_key: str) -> str | None:
        """Return the id of the copy in a scope."""
        found: str | None = await tx.fetch_value(_COPY_OF, tx.tenant, memory_id, scope_key)
        return found

    async def keep(self, tx: Transaction, memory_id: str, scope_key: str, copy: str) -> None:
        """Note the copy, in place of an older one."""
        await tx.run(_KEEP_COPY, tx.tenant, memory_id, scope_key, copy)


def _values(tenant: str, memory_id: str, owner: str, draft: Draft) -> tuple[object, ...]:
    source = draft.provenance
    return (
        tenant,
        memory_id,
        draft.text,
        content_hash(draft.text),
        draft.scope.kind.value,
        draft.scope.id,
        draft.scope.key(owner),
        draft.type.value,
        draft.importance,
        draft.agent_id,
        owner,
        source.session_id,
        source.turn_id,
        source.task_id,
        source.memory_id,
        source.source,
        list(draft.tags),
    )
