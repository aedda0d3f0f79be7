"""Who belongs to which scope, as rows."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_memory.models import Members, Scope
from gathering_mesh.postgres import Transaction

_SCOPES_OF = """
select member_id, scope_key from scope_member where tenant_id = $1 and member_id = any($2)
"""
_FIND = """
select s.version, coalesce(array_agg(m.member_id order by m.member_id)
    filter (where m.member_id is not null), '{}') as members
from membership s
left join scope_member m on (m.tenant_id, m.scope_key) = (s.tenant_id, s.scope_key)
where s.tenant_id = $1 and s.scope_key = $2 group by s.version
"""
_ADVANCE = """
insert into membership as s (tenant_id, scope_key, version) values ($1, $2, $3)
on conflict (tenant_id, scope_key) do update set version = excluded.version
where s.version < excluded.version
returning 1
"""
_REMOVE = """
delete from scope_member
where tenant_id = $1 and scope_key = $2 and not (member_id = any($3::text[]))
"""
_INSERT = """
insert into scope_member (tenant_id, member_id, scope_key)
select $1, m.id, $2 from unnest($3::text[]) as m (id) on conflict do nothing
"""
_AGENT = "agt_"


class MembershipTable:
    """Who belongs to which scope, as the orchestrator told."""

    async def scopes_of(self, tx: Transaction, *member_ids: str) -> Sequence[frozenset[str]]:
        """Return for each of these the keys of the scopes to which it belongs."""
        rows = await tx.fetch(_SCOPES_OF, tx.tenant, list(member_ids))
        return [
            frozenset(row["scope_key"] for row in rows if row["member_id"] == member_id)
            for member_id in member_ids
        ]

    async def find(self, tx: Transaction, scope: Scope) -> Members | None:
        """Return the members of a scope, None if they were never told."""
        row = await tx.fetch_one(_FIND, tx.tenant, scope.key(""))
        if row is None:
            return None
        agents = tuple(member for member in row["members"] if member.startswith(_AGENT))
        users = tuple(member for member in row["members"] if not member.startswith(_AGENT))
        return Members(scope, row["version"], agents, users)

    async def replace(self, tx: Transaction, members: Members) -> bool:
        """Take newer members; False where the known version is not older."""
        key = members.scope.key("")
        if not await tx.fetch_value(_ADVANCE, tx.tenant, key, members.version):
            return False
        everybody = [*members.agent_ids, *members.user_ids]
        await tx.run(_REMOVE, tx.tenant, key, everybody)
        await tx.run(_INSERT, tx.tenant, key, everybody)
        return True
