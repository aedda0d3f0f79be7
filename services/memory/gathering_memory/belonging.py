"""Keep who belongs to which scope, as the orchestrator tells it."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_memory import access
from gathering_memory.errors import ScopeNotFound
from gathering_memory.events import ScopeMembersChanged
from gathering_memory.models import Members, Scope
from gathering_memory.ports import Memberships
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database


@dataclass(frozen=True, slots=True)
class Belonging:
    """The verbs of memberships."""

    db: Database
    memberships: Memberships

    async def replace(self, call: Call, members: Members) -> Members:
        """Take the members of a scope; an older or equal version changes nothing."""
        scope = access.with_members(members.scope, "members.scope")
        async with self.db.transaction(call) as tx:
            if await self.memberships.replace(tx, members):
                changed = ScopeMembersChanged(scope.kind.value, scope.id, members.version)
                tx.emit(scope.id, changed)
            known = await self.memberships.find(tx, scope)
        if known is None:
            raise ScopeNotFound(scope.key(""))
        return known

    async def find(self, call: Call, scope: Scope) -> Members:
        """Return the members of a scope as memory knows them."""
        access.with_members(scope, "scope")
        async with self.db.transaction(call) as tx:
            known = await self.memberships.find(tx, scope)
        if known is None:
            raise ScopeNotFound(scope.key(""))
        return known
