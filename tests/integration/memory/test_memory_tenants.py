"""Tenants never mix: by the port, and by the store with its own conditions taken away."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import asyncpg
import pytest

import gathering_memory.store
import gathering_memory.store_members
import gathering_memory.store_search
import gathering_memory.store_vectors
import gathering_memory.store_writes
from gathering_mesh.errors import NotFound, PermissionDenied
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import CIRCLE, PRIVATE, TENANT, Caller, Service, scope

TEXTS = ["The safe is behind the painting", "Painting of the safe", "The key is under the mat"]


async def test_two_tenants_with_the_same_data_never_mix(service: Service) -> None:
    agent, circle, user = new_id("agt"), scope(CIRCLE, new_id("crc")), new_id("usr")
    # Even user, agent and circle have the same ids in both.
    callers = [Caller(service, new_id("ten"), user, "admin") for _ in range(2)]
    ids: list[set[str]] = []
    for caller in callers:
        await caller.set_members(circle, 1, agent, user)
        stored = [
            *[await caller.remember(text, TENANT) for text in TEXTS],
            *[await caller.remember(text, CIRCLE, circle.id, agent_id=agent) for text in TEXTS],
            *[await caller.remember(text, agent_id=agent) for text in TEXTS],
            *[await caller.remember(text) for text in TEXTS],
        ]
        await caller.embedded(*stored)
        assert {memory.remembered_count for memory in stored} == {1}
        ids.append({memory.memory_id for memory in stored})
    for caller, own, others in zip(callers, ids, reversed(ids), strict=True):
        named = [circle, scope(PRIVATE, agent)]
        for fields in (dict[str, Any](), {"agent_id": agent}, {"scopes": named}):
            found = (await caller.hits("where is the safe?", limit=100, **fields)).hits
            assert {hit.memory.memory_id for hit in found} <= own
            assert len(found) >= 3
        listed = (await caller.page(page_size=200)).memories
        assert {memory.memory_id for memory in listed} == own
        for memory_id in others:
            with pytest.raises(NotFound):
                await caller.get(memory_id)
            with pytest.raises(NotFound):
                await caller.forget(memory_id)
            with pytest.raises(NotFound):
                await caller.share(memory_id, TENANT)
            with pytest.raises(NotFound):
                await caller.remember("x", TENANT, supersedes_memory_id=memory_id)


async def test_membership_of_one_tenant_opens_nothing_in_another(words_only: Service) -> None:
    agent, circle = new_id("agt"), scope(CIRCLE, new_id("crc"))
    ada, eve = words_only.caller(), words_only.caller()
    await ada.set_members(circle, 1, agent, ada.user)
    await ada.remember("ours", CIRCLE, circle.id, agent_id=agent)
    with pytest.raises(PermissionDenied):
        await eve.recall("ours", agent_id=agent, scopes=[circle])
    await eve.set_members(circle, 1, agent)
    assert await eve.recall("ours", agent_id=agent) == []
    known = await ada.set_members(circle, 1)
    assert list(known.agent_ids) == [agent]


async def test_query_without_its_tenant_condition_returns_nothing_of_the_other(
    service: Service,
) -> None:
    """Row-level security holds where a statement forgets its tenant."""
    ada, eve = service.caller(), service.caller()
    await ada.embedded(*[await ada.remember(text, TENANT) for text in TEXTS])
    circle = scope(CIRCLE, new_id("crc"))
    await ada.set_members(circle, 1, ada.user)
    await ada.share((await ada.page()).memories[0].memory_id, CIRCLE, circle.id)
    await ada.recall("safe")
    async with service.app.db.transaction(ada.tenant) as tx:
        for table in await _tables(service):
            assert await tx.fetch_value(f"select count(*) from {table}"), table  # noqa: S608
    async with service.app.db.transaction(eve.tenant) as tx:
        for table in await _tables(service):
            statement = f"select * from {table}"  # noqa: S608
            assert await tx.fetch(statement) == [], table
        for statement in (
            "select memory_id from posting where scope_key = 'tenant/' and term = 'safe'",
            "select memory_id from embedding order by embedding <=> embedding limit 10",
            "select id from memory where text like '%safe%'",
        ):
            assert await tx.fetch(statement) == []
        assert await tx.run("delete from memory") == 0
        assert await tx.run("update scope_stats set document_count = 0") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with service.app.db.transaction(eve.tenant) as tx:
            await tx.run("insert into membership values ($1, 'circle/x', 1)", ada.tenant)


async def _tables(service: Service) -> list[str]:
    """Return the tables of the schema in which memory keeps what tenants know."""
    own = await asyncpg.connect(service.database.admin)
    try:
        rows = await own.fetch(
            "select c.relname, c.relforcerowsecurity as bound from pg_class c"
            " join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'"
            " where c.relnamespace = 'memory'::regnamespace and c.relkind = 'r'"
        )
    finally:
        await own.close()
    assert all(row["bound"] for row in rows)
    mesh = {"aggregate", "outbox", "log", "parked", "idempotency", "work"}
    return [row["relname"] for row in rows if row["relname"] not in mesh]


STORES = (
    gathering_memory.store,
    gathering_memory.store_members,
    gathering_memory.store_search,
    gathering_memory.store_vectors,
    gathering_memory.store_writes,
)


@pytest.mark.parametrize("store", STORES)
def test_each_statement_names_its_tenant(store: ModuleType) -> None:
    statements = [
        text
        for name, text in inspect.getmembers(store)
        if name.startswith("_") and isinstance(text, str) and not name.startswith("__")
        if any(verb in text for verb in ("select ", "insert ", "update ", "delete "))
        and "{" not in text.replace("'{}'", "")  # a part of others
    ]
    free = ("set_config(", "pg_class")  # settings and statistics of the planner
    for text in statements:
        assert "tenant_id" in text or any(word in text for word in free), text
