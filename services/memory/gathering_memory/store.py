"""Memories as rows: reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gathering_memory.models import (
    Listing,
    Memory,
    MemoryState,
    MemoryType,
    Provenance,
    Scope,
    ScopeKind,
    View,
)
from gathering_mesh.postgres import Transaction

_ABOVE_ALL = "~"  # sorts behind every id
_COLUMNS = """
select m.*, coalesce(r.recalled_count, 0) as recalled_count, r.last_recalled_at
from memory m left join recall_stat r on (r.tenant_id, r.memory_id) = (m.tenant_id, m.id)
"""
_FIND = _COLUMNS + "where m.tenant_id = $1 and m.id = $2"
_MANY = _COLUMNS + "where m.tenant_id = $1 and m.id = any($2) and m.state = 'active'"

# $2 after, $3 limit; $4 agent, $5 kind, $6 scope: empty ones do not restrict.
_FILTER = """
    m.tenant_id = $1 and m.id < $2 and m.state <> 'forgotten'
    and ($4 = '' or m.agent_id = $4) and ($5 = '' or m.scope_kind = $5)
    and ($6 = '' or m.scope_key = $6) order by m.id desc limit $3
"""
_PAGE_OF_ALL = f"{_COLUMNS} where {_FILTER}"
# A limit in each branch, so that each reads its own index backwards and no further than a page.
_PAGE = f"""
with visible as (
    (select m.id from memory m where m.owner_user_id = $7 and {_FILTER})
    union
    (select found.id from unnest($8::text[]) as reached (key)
    cross join lateral (
        select m.id from memory m where m.scope_key = reached.key and {_FILTER}) as found))
{_COLUMNS} join visible v on v.id = m.id
where m.tenant_id = $1 order by m.id desc limit $3
"""  # noqa: S608 - of constants


class MemoryTable:
    """The memories of a tenant, for reading."""

    async def find(self, tx: Transaction, memory_id: str) -> Memory | None:
        """Return a memory, forgotten or not; None if there never was one."""
        row = await tx.fetch_one(_FIND, tx.tenant, memory_id)
        return None if row is None else read(row)

    async def many(self, tx: Transaction, memory_ids: Sequence[str]) -> dict[str, Memory]:
        """Return the active ones among these, by id."""
        rows = await tx.fetch(_MANY, tx.tenant, list(memory_ids))
        return {row["id"]: read(row) for row in rows}

    async def page(
        self, tx: Transaction, view: View, listing: Listing, after: str, limit: int
    ) -> list[Memory]:
        """Return memories below the id `after` (empty: from the newest), newest first."""
        scope_key, keys = "", list(view.scope_keys)
        if listing.kind is not None and listing.scope_id:
            scope_key = Scope(listing.kind, listing.scope_id).key(view.user)
            keys = [scope_key] if view.everything or scope_key in keys else []
        kind = listing.kind.value if listing.kind else ""
        filters = (tx.tenant, after or _ABOVE_ALL, limit, listing.agent_id, kind, scope_key)
        if view.everything and not scope_key:
            return [read(row) for row in await tx.fetch(_PAGE_OF_ALL, *filters)]
        owner = "" if keys == [scope_key] else view.user
        return [read(row) for row in await tx.fetch(_PAGE, *filters, owner, keys)]


def read(row: Mapping[str, Any]) -> Memory:
    """Return a row as a memory."""
    return Memory(
        id=row["id"],
        text=row["text"],
        scope=Scope(ScopeKind(row["scope_kind"]), row["scope_id"]),
        type=MemoryType(row["type"]),
        importance=row["importance"],
        agent_id=row["agent_id"],
        owner_user_id=row["owner_user_id"],
        provenance=Provenance(
            session_id=row["session_id"],
            turn_id=row["turn_id"],
            task_id=row["task_id"],
            memory_id=row["source_memory_id"],
            source=row["source"],
        ),
        state=MemoryState(row["state"]),
        superseded_by=row["superseded_by"] or "",
        tags=tuple(row["tags"]),
        remembered_count=row["remembered_count"],
        recalled_count=row["recalled_count"],
        embedded=row["embedded"],
        created_at=row["created_at"],
        last_recalled_at=row["last_recalled_at"],
    )
