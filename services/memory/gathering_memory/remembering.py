"""Store, share and forget memories. No model is called here: vectors come by work, later.

Locks are taken in one order (scope, work, memory), so that no two of these wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gathering_memory import access, words
from gathering_memory.errors import (
    MemoryNotFound,
    NotActive,
    NoText,
    ScopeInvalid,
    SupersedesElsewhere,
)
from gathering_memory.events import (
    MemoryCreated,
    MemoryForgotten,
    MemoryMerged,
    MemoryShared,
    MemorySuperseded,
)
from gathering_memory.models import (
    EMBED,
    Draft,
    Memory,
    MemoryState,
    Scope,
    ScopeKind,
    content_hash,
)
from gathering_memory.ports import Memberships, Memories, Shares, Writes
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction


@dataclass(frozen=True, slots=True)
class Remembering:
    """The verbs that change memories."""

    db: Database
    memories: Memories
    writes: Writes
    shares: Shares
    memberships: Memberships

    async def remember(self, call: Call, draft: Draft) -> Memory:
        """Store a memory, or count it once more where the same text stands in its scope."""
        if not draft.text.strip():
            raise NoText("text")
        draft = replace(draft, scope=access.valid(draft.scope, draft.agent_id))
        terms = await words.counted(draft.text)  # before the scope is locked
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                await self._require_writer(tx, call, draft.agent_id, draft.scope)
                await self.writes.lock(tx, draft.scope.key(call.user))
                older = await self._replaceable(tx, call, draft) if draft.supersedes else None
                tx.result = await self._store(tx, call.user, draft, terms)
                if older is not None and older.id != tx.result:
                    await self._supersede(tx, older, tx.result)
            return await self._stored(tx, tx.replay or tx.result)

    async def share(self, call: Call, memory_id: str, scope: Scope) -> Memory:
        """Copy a memory into another scope, once; return the copy."""
        if scope.kind in (ScopeKind.PRIVATE, ScopeKind.PERSONAL):
            raise ScopeInvalid("scope.kind", "must be CIRCLE, PROJECT or TENANT")
        scope = access.valid(scope, "")
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                source = await self._visible(tx, call, memory_id)
                await self._require_writer(tx, call, source.agent_id, scope)
                terms = await words.counted(source.text)
                tx.result = await self._share(tx, call, source, scope, terms)
            return await self._stored(tx, tx.replay or tx.result)

    async def forget(self, call: Call, memory_id: str) -> Memory:
        """Delete what a memory says; its id stays known."""
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                memory = await self._visible(tx, call, memory_id)
                access.require_owner(call, memory)
                if memory.state is not MemoryState.FORGOTTEN:
                    await self._forget(tx, memory)
                tx.result = memory_id
            return await self._stored(tx, tx.replay or tx.result)

    async def _store(
        self, tx: Transaction, owner: str, draft: Draft, terms: Mapping[str, int]
    ) -> str:
        new = new_id("mem")
        stored, count = await self.writes.add(tx, new, owner, draft, terms)
        audience = _audience(draft.scope, owner)
        if stored != new:
            tx.emit(stored, MemoryMerged(stored, count), audience)
            return stored
        await tx.schedule(EMBED, new)
        created = MemoryCreated(
            memory_id=new,
            scope_kind=draft.scope.kind.value,
            scope_id=draft.scope.id,
            agent_id=draft.agent_id,
            memory_type=draft.type.value,
            importance=draft.importance,
            content_hash=content_hash(draft.text),
        )
        tx.emit(new, created, audience)
        return new

    async def _replaceable(self, tx: Transaction, call: Call, draft: Draft) -> Memory:
        older = await self.memories.find(tx, draft.supersedes)
        if older is None or older.state is MemoryState.FORGOTTEN:
            raise MemoryNotFound(draft.supersedes)
        if older.scope_key != draft.scope.key(call.user):
            # Only who may see the older one is told where it stands.
            await self._visible(tx, call, older.id)
            raise SupersedesElsewhere
        access.require_replacer(call, older)
        await self._require_active(tx, older)
        return older

    async def _supersede(self, tx: Transaction, older: Memory, by: str) -> None:
        await tx.unschedule(EMBED, older.id)
        await self.writes.supersede(tx, older, by)
        audience = _audience(older.scope, older.owner_user_id)
        tx.emit(older.id, MemorySuperseded(older.id, by), audience)

    async def _share(
        self, tx: Transaction, call: Call, source: Memory, scope: Scope, terms: Mapping[str, int]
    ) -> str:
        key = scope.key("")
        if key == source.scope_key:
            return source.id
        await self.writes.lock(tx, key)
        await self._require_active(tx, source)
        copy = await self._earlier_copy(tx, source, key)
        if copy is not None:
            return copy
        copy = await self._store(tx, call.user, _copy(source, scope), terms)
        await self.shares.keep(tx, source.id, key, copy)
        shared = MemoryShared(source.id, scope.kind.value, scope.id, source.agent_id, copy)
        tx.emit(source.id, shared, _audience(scope, call.user))
        return copy

    async def _earlier_copy(self, tx: Transaction, source: Memory, key: str) -> str | None:
        found = await self.shares.copy_of(tx, source.id, key)
        copy = None if found is None else await self.memories.find(tx, found)
        forgotten = copy is None or copy.state is MemoryState.FORGOTTEN
        return None if forgotten else found

    async def _forget(self, tx: Transaction, memory: Memory) -> None:
        await self.writes.lock(tx, memory.scope_key)
        await tx.unschedule(EMBED, memory.id)
        state = await self.writes.state(tx, memory.id)
        if state is MemoryState.FORGOTTEN:
            return
        await self.writes.forget(tx, replace(memory, state=state))
        audience = _audience(memory.scope, memory.owner_user_id)
        tx.emit(memory.id, MemoryForgotten(memory.id), audience)

    async def _require_active(self, tx: Transaction, memory: Memory) -> None:
        state = await self.writes.state(tx, memory.id)
        if state is not MemoryState.ACTIVE:
            raise NotActive(memory.id, state.value)

    async def _require_writer(
        self, tx: Transaction, call: Call, agent_id: str, scope: Scope
    ) -> None:
        of_user, member_of = await self.memberships.scopes_of(tx, call.user, agent_id or call.user)
        access.require_writer(call, agent_id, scope, member_of, of_user)

    async def _visible(self, tx: Transaction, call: Call, memory_id: str) -> Memory:
        memory = await self.memories.find(tx, memory_id)
        (member_of,) = await self.memberships.scopes_of(tx, call.user)
        if memory is None or not access.may_see(call, memory, member_of):
            raise MemoryNotFound(memory_id)
        return memory

    async def _stored(self, tx: Transaction, memory_id: str | None) -> Memory:
        memory = await self.memories.find(tx, memory_id or "")
        if memory is None:
            raise RuntimeError(f"{memory_id} was stored and is not there")
        return memory


def _copy(source: Memory, scope: Scope) -> Draft:
    return Draft(
        text=source.text,
        scope=scope,
        type=source.type,
        importance=source.importance,
        agent_id=source.agent_id,
        provenance=replace(source.provenance, memory_id=source.id),
        tags=source.tags,
    )


def _audience(scope: Scope, owner: str) -> Sequence[str]:
    """Return who may see events of a memory: what is private is its owner's."""
    return (owner,) if scope.kind in (ScopeKind.PRIVATE, ScopeKind.PERSONAL) else ()
