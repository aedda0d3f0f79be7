"""Several users of one agent, and one rule for what a caller recalls and reads."""

from __future__ import annotations

import asyncio

import pytest

from gathering.memory.v1 import memory_pb2 as pb
from gathering_mesh.errors import InvalidArgument, NotFound, PermissionDenied
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import (
    CIRCLE,
    PERSONAL,
    PRIVATE,
    PROJECT,
    TENANT,
    Caller,
    Service,
    scope,
)


async def test_owners_of_the_same_text_of_an_agent_have_a_memory_each(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    bob = words_only.caller(ada.tenant)
    from_ada = pb.Provenance(source="a letter to Ada")
    first = await ada.remember("The key is blue", agent_id=agent, tags=["ada"], provenance=from_ada)
    second = await bob.remember("The key is blue", agent_id=agent, tags=["bob"])
    assert second.memory_id != first.memory_id and second.owner_user_id == bob.user
    assert list(second.tags) == ["bob"] and not second.provenance.source
    assert await bob.get(second.memory_id) == second
    again = await bob.through("agent").remember("The key is blue", agent_id=agent)
    assert again.memory_id == second.memory_id and again.remembered_count == 2
    await ada.forget(first.memory_id)
    assert await bob.recall("key", agent_id=agent) == ["The key is blue"]
    assert await ada.recall("key", agent_id=agent) == []


async def test_owners_who_remember_at_once_have_a_memory_each(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    owners = [ada, *(words_only.caller(ada.tenant) for _ in range(3))]
    kept = await asyncio.gather(
        *(owner.remember("All at once", agent_id=agent) for owner in owners * 3)
    )
    assert len({memory.memory_id for memory in kept}) == len(owners)
    for owner, memory in zip(owners * 3, kept, strict=True):
        assert memory.owner_user_id == owner.user


async def test_members_of_a_circle_share_one_memory_of_a_text(words_only: Service) -> None:
    ada, circle = words_only.caller(), scope(CIRCLE, new_id("crc"))
    bob = words_only.caller(ada.tenant)
    await ada.set_members(circle, 1, ada.user, bob.user)
    first = await ada.remember("Known to both", CIRCLE, circle.id)
    again = await bob.remember("Known to both", CIRCLE, circle.id)
    assert again.memory_id == first.memory_id and again.remembered_count == 2


async def test_user_as_an_agent_finds_of_its_circles_only_their_own(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    bob, boss = words_only.caller(ada.tenant), words_only.caller(ada.tenant, role="admin")
    for kind, prefix in ((CIRCLE, "crc"), (PROJECT, "prj")):
        shared = scope(kind, new_id(prefix))
        text = f"The {prefix} plan"
        await ada.set_members(shared, 1, agent, ada.user)
        kept = await ada.remember(text, kind, shared.id)
        for direct in (bob, bob.through("gateway")):
            assert text not in await direct.recall("plan", agent_id=agent)
            assert await direct.recall("plan", agent_id=agent, scopes=[shared]) == []
            with pytest.raises(PermissionDenied):
                await direct.recall("plan", scopes=[shared])
            with pytest.raises(NotFound):
                await direct.get(kept.memory_id)
        for member in (ada, boss, bob.through("agent"), bob.through("orchestrator")):
            assert text in await member.recall("plan", agent_id=agent)
            assert await member.recall("plan", agent_id=agent, scopes=[shared]) == [text]
            assert (await member.get(kept.memory_id)).text == text


async def test_user_as_an_agent_finds_their_own_where_only_it_belongs(words_only: Service) -> None:
    ada, agent, circle = words_only.caller(), new_id("agt"), scope(CIRCLE, new_id("crc"))
    bob = words_only.caller(ada.tenant)
    await ada.set_members(circle, 1, agent, ada.user)
    await ada.remember("The hidden plan", CIRCLE, circle.id)
    running = bob.through("agent")  # Bob himself does not belong; his agent's turn may write.
    mine = await running.remember("The open plan", CIRCLE, circle.id, agent_id=agent)
    for question in ({}, {"scopes": [circle]}):
        assert await bob.recall("plan", agent_id=agent, **question) == [mine.text]
        assert len(await ada.recall("plan", agent_id=agent, **question)) == 2
    await ada.set_members(circle, 2, ada.user)
    assert await bob.recall("plan", agent_id=agent) == []


async def test_what_is_recalled_can_be_read(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    bob, eve = words_only.caller(ada.tenant), words_only.caller(ada.tenant)
    both, hers = scope(CIRCLE, new_id("crc")), scope(PROJECT, new_id("prj"))
    await ada.set_members(both, 1, agent, ada.user, bob.user)
    await ada.set_members(hers, 1, agent, ada.user)
    for owner in (ada, bob, eve):
        for agent_id in ("", agent):
            await owner.remember(f"fact of {owner.user}{agent_id}", agent_id=agent_id)
        await owner.remember(f"fact of {owner.user} for all", TENANT)
    await bob.remember("fact of both", CIRCLE, both.id)
    await ada.remember("fact of hers", PROJECT, hers.id)
    boss = words_only.caller(ada.tenant, role="admin")
    callers = [who.through(via) for who in (ada, bob, eve, boss) for via in ("", *_SERVICES)]
    counts = [await _recalled_and_read(caller, agent) for caller in callers]
    # Three for all; the agent's own; its circle and project, as far as the caller belongs there.
    run, direct = 3 + 3 + 2, {ada.user: 3 + 1 + 2, bob.user: 3 + 1 + 1, eve.user: 3 + 1}
    for caller, count in zip(callers, counts, strict=True):
        opened = caller.role == "admin" or caller.actor in ("agent", "orchestrator")
        assert count == (run if opened else direct[caller.user]), caller


_SERVICES = ("gateway", "agent", "orchestrator")


async def _recalled_and_read(caller: Caller, agent: str) -> int:
    for question in ({}, {"scopes": [scope(PRIVATE, agent)]}):
        for hit in (await caller.hits("fact", limit=100, **question)).hits:
            assert (await caller.get(hit.memory.memory_id)).text == hit.memory.text
    as_agent = (await caller.hits("fact", agent_id=agent, limit=100)).hits
    for hit in as_agent:
        assert (await caller.get(hit.memory.memory_id)).text == hit.memory.text
    return len(as_agent)


async def test_personal_memory_is_recalled_where_the_agent_works_for_its_owner_alone(
    words_only: Service,
) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    bob, boss = words_only.caller(ada.tenant), words_only.caller(ada.tenant, role="admin")
    told = await ada.through("agent").remember("My name is Ada", PERSONAL, agent, agent_id=agent)
    assert (told.scope.kind, told.scope.id, told.owner_user_id) == (PERSONAL, agent, ada.user)
    assert await ada.through("agent").recall("name", agent_id=agent) == ["My name is Ada"]
    assert await ada.recall("name", agent_id=agent) == ["My name is Ada"]
    for other in (bob, bob.through("agent"), bob.through("orchestrator"), boss.through("agent")):
        assert await other.recall("name", agent_id=agent) == []
    assert await ada.through("agent").recall("name", agent_id=new_id("agt")) == []
    assert await ada.recall("name") == []
    for reader in (ada, ada.through("agent"), boss):
        assert (await reader.get(told.memory_id)).text == "My name is Ada"
    for stranger in (bob, bob.through("agent")):
        with pytest.raises(NotFound):
            await stranger.get(told.memory_id)
    named = [scope(PERSONAL, agent)]
    assert await ada.recall("name", agent_id=agent, scopes=named) == ["My name is Ada"]
    assert await bob.through("agent").recall("name", agent_id=agent, scopes=named) == []
    assert [each.memory_id for each in (await ada.page(scope_kind=PERSONAL)).memories] == [
        told.memory_id
    ]
    assert not (await bob.page(agent_id=agent)).memories


async def test_personal_memories_of_two_owners_are_corrected_apart(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    bob = words_only.caller(ada.tenant)
    first = await ada.remember("I like tea", PERSONAL, agent_id=agent)
    second = await bob.remember("I like tea", PERSONAL, agent_id=agent)
    assert first.memory_id != second.memory_id
    again = await ada.through("agent").remember("I like tea", PERSONAL, agent_id=agent)
    assert (again.memory_id, again.remembered_count) == (first.memory_id, 2)
    with pytest.raises(NotFound):
        await bob.through("agent").remember(
            "I like milk", PERSONAL, agent_id=agent, supersedes_memory_id=first.memory_id
        )
    new = await ada.through("agent").remember(
        "I like milk", PERSONAL, agent_id=agent, supersedes_memory_id=first.memory_id
    )
    assert (await ada.get(first.memory_id)).superseded_by_memory_id == new.memory_id
    assert await bob.recall("tea", agent_id=agent) == ["I like tea"]


async def test_personal_scope_without_an_agent_is_refused(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    for wrong in ("", ada.user, new_id("crc")):
        with pytest.raises(InvalidArgument):
            await ada.remember("x", PERSONAL, wrong)
    with pytest.raises(PermissionDenied):
        await ada.remember("x", PERSONAL, agent, agent_id=new_id("agt"))
    told = await ada.remember("x", PERSONAL, agent)
    with pytest.raises(InvalidArgument):
        await ada.share(told.memory_id, PERSONAL, agent)
