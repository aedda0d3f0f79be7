"""Read and list memories."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_memory import access
from gathering_memory.errors import MemoryNotFound, ScopeInvalid
from gathering_memory.models import TENANT_SCOPE, Listing, Memory, Page, View, answerable
from gathering_memory.ports import Memberships, Memories
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint
from gathering_mesh.postgres import Database, Transaction


@dataclass(frozen=True, slots=True)
class Reading:
    """The verbs that read memories by id and in lists."""

    db: Database
    memories: Memories
    memberships: Memberships

    async def get(self, call: Call, memory_id: str) -> Memory:
        """Return a memory that the caller may see."""
        async with self.db.transaction(call) as tx:
            memory = await self.memories.find(tx, memory_id)
            (member_of,) = await self.memberships.scopes_of(tx, call.user)
        if memory is None or not access.may_see(call, memory, member_of):
            raise MemoryNotFound(memory_id)
        return memory

    async def list(self, call: Call, listing: Listing) -> Page:
        """Return a page of the memories that the caller may see, newest first."""
        if listing.scope_id and listing.kind is None:
            raise ScopeInvalid("scope_kind", "must be given with scope_id")
        size = page_size(listing.page_size)
        query = query_fingerprint(
            call.method, call.tenant, call.user, listing.agent_id, listing.kind, listing.scope_id
        )
        last = decode_token(query, listing.page_token)
        after = str(last[0]) if last else ""
        async with self.db.transaction(call) as tx:
            view = await self._view(tx, call)
            found = await self.memories.page(tx, view, listing, after, size + 1)
        shown = found[: answerable(found[:size])]
        more = len(found) > len(shown)
        return Page(shown, encode_token(query, [shown[-1].id]) if more else "")

    async def _view(self, tx: Transaction, call: Call) -> View:
        (member_of,) = await self.memberships.scopes_of(tx, call.user)
        keys = (TENANT_SCOPE.key(""), *sorted(member_of))
        return View(call.user, access.is_administrator(call), keys)
