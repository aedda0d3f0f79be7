"""Who sees what inside a tenant, memberships and their versions, sharing."""

from __future__ import annotations

import asyncio

import pytest

from gathering.memory.v1 import memory_pb2 as pb
from gathering.memory.v1 import memory_service_pb2 as service_pb
from gathering_mesh.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from gathering_mesh.ids import new_id
from tests.integration.memory.callers import (
    CIRCLE,
    PRIVATE,
    PROJECT,
    TENANT,
    Caller,
    Service,
    scope,
)


async def test_private_memory_of_a_user_is_found_by_that_user_alone(words_only: Service) -> None:
    ada = words_only.caller()
    mine = await ada.remember("Ada likes green tea")
    bob, boss = words_only.caller(ada.tenant), words_only.caller(ada.tenant, role="admin")
    assert await ada.recall("green tea") == ["Ada likes green tea"]
    assert await bob.recall("green tea") == []
    assert mine.scope == scope(PRIVATE) and not mine.agent_id
    with pytest.raises(NotFound):
        await bob.get(mine.memory_id)
    assert (await boss.get(mine.memory_id)).text == "Ada likes green tea"
    with pytest.raises(NotFound):
        await ada.through("agent").remember("no", supersedes_memory_id=new_id("mem"))
    with pytest.raises(NotFound):
        await bob.through("agent").get(mine.memory_id)


async def test_private_memories_of_an_agent_are_found_by_that_agent(words_only: Service) -> None:
    ada, agent, other = words_only.caller(), new_id("agt"), new_id("agt")
    kept = await ada.through("agent").remember("The linter wants tabs", agent_id=agent)
    assert kept.scope == scope(PRIVATE, agent) and kept.owner_user_id == ada.user
    bob = words_only.caller(ada.tenant)
    assert await bob.through("agent").recall("linter", agent_id=agent) == ["The linter wants tabs"]
    assert await bob.through("agent").recall("linter", agent_id=other) == []
    assert await ada.recall("linter") == []
    assert await ada.recall("linter", scopes=[scope(PRIVATE, agent)]) == ["The linter wants tabs"]
    with pytest.raises(PermissionDenied):
        await ada.recall("linter", agent_id=other, scopes=[scope(PRIVATE, agent)])
    with pytest.raises(PermissionDenied):
        await ada.remember("x", PRIVATE, agent, agent_id=other)


async def test_user_who_recalls_as_an_agent_finds_only_what_they_own(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    await ada.remember("Ada told the agent her salary", agent_id=agent)
    await ada.remember("Salary day is the first", TENANT)
    bob, boss = words_only.caller(ada.tenant), words_only.caller(ada.tenant, role="admin")
    for direct in (bob, bob.through("gateway")):
        assert await direct.recall("salary", agent_id=agent) == ["Salary day is the first"]
    assert len(await ada.recall("salary", agent_id=agent)) == 2
    assert len(await boss.recall("salary", agent_id=agent)) == 2


async def _circle(ada: Caller, *members: str) -> pb.Scope:
    circle = scope(CIRCLE, new_id("crc"))
    await ada.set_members(circle, 1, *members)
    return circle


async def test_circle_memory_is_for_members(words_only: Service) -> None:
    ada, bob, agent, other = (
        words_only.caller(), words_only.caller(), new_id("agt"), new_id("agt"),
    )  # fmt: skip
    circle = await _circle(ada, agent, ada.user)
    kept = await ada.remember("We deploy from main", CIRCLE, circle.id, agent_id=agent)
    assert await ada.recall("deploy") == ["We deploy from main"]
    assert await ada.recall("deploy", agent_id=agent) == ["We deploy from main"]
    assert await ada.recall("deploy", agent_id=other) == []
    bob = words_only.caller(ada.tenant)
    assert await bob.recall("deploy") == []
    with pytest.raises(NotFound):
        await bob.get(kept.memory_id)
    for refused in (
        bob.remember("x", CIRCLE, circle.id),
        bob.remember("x", CIRCLE, circle.id, agent_id=other),
        bob.recall("deploy", scopes=[circle]),
    ):
        with pytest.raises(PermissionDenied):
            await refused
    boss = words_only.caller(ada.tenant, role="admin")
    assert await boss.recall("deploy", scopes=[circle]) == ["We deploy from main"]


async def test_user_writes_as_a_member_agent_only_where_they_belong(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    bob, boss = words_only.caller(ada.tenant), words_only.caller(ada.tenant, role="admin")
    circle = await _circle(ada, agent, ada.user)
    own = await bob.remember("Bob plants a lie", agent_id=agent)
    for outsider in (bob, bob.through("gateway")):
        with pytest.raises(PermissionDenied):
            await outsider.remember("x", CIRCLE, circle.id, agent_id=agent)
        with pytest.raises(PermissionDenied):
            await outsider.share(own.memory_id, CIRCLE, circle.id)
    for allowed in (ada, boss, bob.through("agent")):
        await allowed.remember("We test first", CIRCLE, circle.id, agent_id=agent)
    with pytest.raises(PermissionDenied):
        await boss.remember("x", CIRCLE, circle.id, agent_id=new_id("agt"))


async def test_who_leaves_a_circle_finds_nothing_of_it(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    circle = await _circle(ada, agent, ada.user)
    await ada.remember("We meet at ten", CIRCLE, circle.id, agent_id=agent)
    await ada.set_members(circle, 2, ada.user)
    assert await ada.recall("meet", agent_id=agent) == []
    assert await ada.recall("meet") == ["We meet at ten"]
    with pytest.raises(PermissionDenied):
        await ada.remember("We meet at nine", CIRCLE, circle.id, agent_id=agent)


async def test_membership_takes_newer_versions_only(words_only: Service) -> None:
    ada, first, second = words_only.caller(), new_id("agt"), new_id("agt")
    project = scope(PROJECT, new_id("prj"))
    request = service_pb.GetScopeMembersRequest(scope=project)
    orchestrator = ada.through("orchestrator")
    with pytest.raises(NotFound):
        await orchestrator.call("GetScopeMembers", request, "MembershipService")
    assert (await ada.set_members(project, 5, first, ada.user)).version == 5
    for version in (5, 4, 1):
        known = await ada.set_members(project, version, second)
        assert (known.version, list(known.agent_ids)) == (5, [first])
    known = await ada.set_members(project, 6, second)
    assert (list(known.agent_ids), list(known.user_ids)) == ([second], [])
    assert known == await orchestrator.call("GetScopeMembers", request, "MembershipService")


async def test_newest_membership_wins_whatever_the_order(words_only: Service) -> None:
    ada, agents = words_only.caller(), [new_id("agt") for _ in range(12)]
    circle = scope(CIRCLE, new_id("crc"))
    versions = [7, 3, 11, 1, 9, 12, 2, 10, 4, 8, 6, 5]
    await asyncio.gather(*(ada.set_members(circle, v, agents[v - 1]) for v in versions))
    known = await ada.set_members(circle, 1)
    assert (known.version, list(known.agent_ids)) == (12, [agents[11]])


async def test_membership_is_told_by_the_orchestrator_alone(words_only: Service) -> None:
    ada = words_only.caller(role="admin")
    told = pb.ScopeMembers(scope=scope(CIRCLE, new_id("crc")), version=1, user_ids=[ada.user])
    request = service_pb.SetScopeMembersRequest(members=told)
    for caller in (ada, ada.through("agent"), ada.through("gateway")):
        with pytest.raises(PermissionDenied):
            await caller.call("SetScopeMembers", request, "MembershipService")
    for wrong in (scope(TENANT), scope(PRIVATE, new_id("agt")), scope(CIRCLE)):
        with pytest.raises(InvalidArgument):
            await ada.set_members(wrong, 1)


async def test_shared_memory_is_a_copy_that_outlives_its_source(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    circle = await _circle(ada, agent, ada.user)
    source = await ada.remember(
        "Retry with jitter", agent_id=agent, provenance=pb.Provenance(task_id=new_id("tsk"))
    )
    copy = await ada.share(source.memory_id, CIRCLE, circle.id)
    assert copy.memory_id != source.memory_id and copy.scope == circle
    assert copy.provenance.memory_id == source.memory_id
    assert copy.provenance.task_id == source.provenance.task_id
    assert (await ada.share(source.memory_id, CIRCLE, circle.id)).memory_id == copy.memory_id
    assert copy.remembered_count == 1
    await ada.forget(source.memory_id)
    assert await ada.recall("jitter", agent_id=agent) == ["Retry with jitter"]
    with pytest.raises(FailedPrecondition):
        await ada.share(source.memory_id, TENANT)


async def test_sharing_at_once_makes_one_copy(words_only: Service) -> None:
    ada = words_only.caller()
    source = await ada.remember("Only once")
    copies = await asyncio.gather(*(ada.share(source.memory_id, TENANT) for _ in range(8)))
    assert len({copy.memory_id for copy in copies}) == 1
    assert (await ada.get(copies[0].memory_id)).remembered_count == 1


async def test_forgotten_copy_is_made_anew(words_only: Service) -> None:
    ada = words_only.caller()
    source = await ada.remember("Come back")
    copy = await ada.share(source.memory_id, TENANT)
    await ada.forget(copy.memory_id)
    again = await ada.share(source.memory_id, TENANT)
    assert again.memory_id != copy.memory_id and again.state == pb.MEMORY_STATE_ACTIVE


async def test_shared_text_that_is_known_there_is_not_stored_twice(words_only: Service) -> None:
    ada = words_only.caller()
    known = await ada.remember("Water boils at 100 degrees", TENANT)
    mine = await ada.remember("Water boils at 100 degrees")
    copy = await ada.share(mine.memory_id, TENANT)
    assert copy.memory_id == known.memory_id and copy.remembered_count == 2
    assert (await ada.share(known.memory_id, TENANT)).memory_id == known.memory_id


async def test_memory_is_shared_into_scopes_of_its_agent_only(words_only: Service) -> None:
    ada, agent = words_only.caller(), new_id("agt")
    circle = await _circle(ada, ada.user)
    of_agent = await ada.remember("From the agent", agent_id=agent)
    of_user = await ada.remember("From the user")
    with pytest.raises(PermissionDenied):
        await ada.share(of_agent.memory_id, CIRCLE, circle.id)
    assert (await ada.share(of_user.memory_id, CIRCLE, circle.id)).scope == circle
    with pytest.raises(InvalidArgument):
        await ada.share(of_user.memory_id, PRIVATE)
    stranger = words_only.caller(ada.tenant)
    with pytest.raises(NotFound):
        await stranger.share(of_user.memory_id, TENANT)


async def test_scope_is_needed_for_each_verb(words_only: Service) -> None:
    ada = words_only.caller(scopes="memory.read")
    with pytest.raises(PermissionDenied) as refused:
        await ada.remember("x")
    assert refused.value.reason == "SCOPE_MISSING"
    assert await ada.recall("x") == []
