"""Several users of one agent: each keeps a memory of their own."""

from __future__ import annotations

import asyncio

from gathering.memory.v1 import memory_pb2 as pb
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import CIRCLE, Service, scope


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
