"""Circles and members: what memory is told, what is known of agents, who sees what."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from gathering.agent.v1 import agent_pb2
from gathering.orchestrator.v1 import circle_pb2
from gathering_mesh.errors import Aborted, InvalidArgument, NotFound, Unavailable
from gathering_mesh.ids import new_id
from tests.integration.orchestrator.world import World
from tests.support.waiting import eventually


async def test_memory_knows_the_members_when_the_call_is_answered(world: World) -> None:
    user = world.caller()
    one, two = user.agent("One"), user.agent("Two")
    circle = await user.circle(one)
    scope = (user.tenant, circle.circle_id)
    assert list(world.memory.scopes[scope].agent_ids) == [one]
    assert list(world.memory.scopes[scope].user_ids) == [user.user]

    await user.call("AddMember", circle_id=circle.circle_id, member={"agent_id": two})
    assert sorted(world.memory.scopes[scope].agent_ids) == sorted([one, two])

    await user.call("RemoveMember", circle_id=circle.circle_id, agent_id=one)
    assert list(world.memory.scopes[scope].agent_ids) == [two]
    await user.call("RemoveMember", circle_id=circle.circle_id, agent_id=one)  # idempotent
    assert world.memory.scopes[scope].version == 3
    types = [event.type for event in await world.events(circle.circle_id)]
    assert types == [
        "circle_created", "circle_member_added", "circle_member_added", "circle_member_removed"
    ]  # fmt: skip


async def test_membership_that_memory_could_not_take_is_pushed_later(world: World) -> None:
    user = world.caller()
    circle = await user.circle()
    agent = user.agent("Agent")
    world.memory.down.add("SetScopeMembers")
    with pytest.raises(Unavailable):
        await user.call(
            "AddMember", circle_id=circle.circle_id, member={"agent_id": agent}, request_id="one"
        )
    world.memory.down.clear()
    again = await user.call(
        "AddMember", circle_id=circle.circle_id, member={"agent_id": agent}, request_id="one"
    )
    assert again.agent_id == agent
    scope = (user.tenant, circle.circle_id)
    assert list(world.memory.scopes[scope].agent_ids) == [agent]

    world.memory.down.add("SetScopeMembers")
    with pytest.raises(Unavailable):
        await user.call("RemoveMember", circle_id=circle.circle_id, agent_id=agent)
    world.memory.down.clear()  # and nobody calls again

    async def pushed() -> bool:
        return not world.memory.scopes[scope].agent_ids

    await eventually(pushed, "the worker pushes", 20)


async def test_membership_whose_permission_ended_is_told_by_the_next_who_calls(
    world: World,
) -> None:
    user = world.caller()
    agent, other = user.agent("Agent"), user.agent("Other")
    circle = await user.circle(agent)
    world.memory.down.add("SetScopeMembers")
    world.gateway.revoked.update(world.gateway.purposes)
    with pytest.raises(Unavailable):
        await user.call("RemoveMember", circle_id=circle.circle_id, agent_id=agent)

    async def given_up() -> bool:
        return not await world.rows("select from orchestrator.work where kind = 'membership'")

    await eventually(given_up, "nobody tries for ever", 20)
    world.memory.down.clear()
    await user.call("AddMember", circle_id=circle.circle_id, member={"agent_id": other})
    assert list(world.memory.scopes[user.tenant, circle.circle_id].agent_ids) == [other]


async def test_copies_of_agents_follow_the_agents(world: World) -> None:
    user = world.caller()
    agent = user.agent("Old name", python=0.5)
    circles = [await user.circle(agent) for _ in range(2)]

    world.agent.change(agent, name="New name")

    for circle in circles:

        async def renamed(circle_id: str = circle.circle_id) -> bool:
            return (await user.members(circle_id))[agent].name == "New name"

        await eventually(renamed, "the copy is refreshed")
    world.agent.change(agent, state=agent_pb2.AGENT_STATE_ARCHIVED)

    async def archived() -> bool:
        rows = await world.rows("select archived from orchestrator.agents where id = $1", agent)
        return bool(rows[0]["archived"])

    await eventually(archived, "the copy is archived")


async def test_agent_is_read_again_under_another_circles_permission(world: World) -> None:
    user = world.caller()
    agent = user.agent("Old name")
    first = await user.circle(agent)
    second = await user.circle(agent)
    purposes = world.gateway.purposes.items()
    world.gateway.revoked.update(d for d, p in purposes if p == second.circle_id)
    world.agent.change(agent, name="New name")

    async def renamed() -> bool:
        return (await user.members(first.circle_id))[agent].name == "New name"

    await eventually(renamed, "the copy is refreshed")


async def test_member_added_again_has_its_fields_replaced(world: World) -> None:
    user = world.caller()
    agent = user.agent("Agent", python=0.7)
    circle = await user.circle(agent)
    member = circle_pb2.Member(
        agent_id=agent, mode=circle_pb2.MEMBER_MODE_EXTERNAL, can_review=False
    )
    changed = await user.call("AddMember", circle_id=circle.circle_id, member=member)
    assert (changed.mode, changed.can_review) == (circle_pb2.MEMBER_MODE_EXTERNAL, False)
    assert [(one.name, round(one.strength, 3)) for one in changed.competences] == [("python", 0.7)]
    types = [event.type for event in await world.events(circle.circle_id)]
    assert types.count("circle_member_added") == 1


async def test_circle_has_the_contracts_defaults_and_is_updated_by_mask(world: World) -> None:
    user = world.caller()
    made = await user.call("CreateCircle", circle={"name": "Plain"})
    assert (made.requires_review, made.max_rounds, made.offer_timeout.seconds) == (True, 3, 60)
    assert made.owner_user_id == user.user
    changed = await user.call(
        "UpdateCircle", circle_id=made.circle_id, etag=made.etag,
        circle={"name": "Ignored", "purpose": "To work", "requires_review": False},
        update_mask=FieldMask(paths=["purpose", "requires_review"]),
    )  # fmt: skip
    assert (changed.name, changed.purpose, changed.requires_review) == ("Plain", "To work", False)
    assert changed.etag != made.etag
    with pytest.raises(Aborted) as stale:
        await user.call(
            "UpdateCircle", circle_id=made.circle_id, etag=made.etag, circle={"name": "Late"},
            update_mask=FieldMask(paths=["name"]),
        )  # fmt: skip
    assert stale.value.reason == "ETAG_STALE"
    for paths in (["owner_user_id"], ["nothing"]):
        with pytest.raises(InvalidArgument) as refusal:
            await user.call(
                "UpdateCircle", circle_id=made.circle_id, circle={"name": "A"},
                update_mask=FieldMask(paths=paths),
            )  # fmt: skip
        assert refusal.value.reason == "INVALID_UPDATE_MASK"


async def test_what_is_missing_is_not_found_and_leaves_nothing(world: World) -> None:
    user = world.caller()
    circle = await user.circle()
    unknown = new_id("agt")
    with pytest.raises(NotFound):
        await user.circle(unknown)
    with pytest.raises(NotFound):
        await user.circle(workspace_id=new_id("wsp"))
    with pytest.raises(NotFound):
        await user.call("AddMember", circle_id=circle.circle_id, member={"agent_id": unknown})
    for rpc in ("GetCircle", "ListMembers"):
        with pytest.raises(NotFound):
            await user.call(rpc, circle_id=new_id("crc"))
    with pytest.raises(NotFound):
        await user.call("RemoveMember", circle_id=new_id("crc"), agent_id=unknown)
    with pytest.raises(InvalidArgument):
        await user.call("CreateCircle", circle={"purpose": "none"})
    agent = user.agent("Twice")
    with pytest.raises(InvalidArgument):
        await user.circle(agent, agent)
    listed = await user.call("ListCircles")
    assert [one.circle_id for one in listed.circles] == [circle.circle_id]


async def test_circles_are_paged_newest_first(world: World) -> None:
    user = world.caller()
    made = [(await user.circle()).circle_id for _ in range(3)]
    first = await user.call("ListCircles", page_size=2)
    rest = await user.call("ListCircles", page_size=2, page_token=first.next_page_token)
    found = [one.circle_id for one in (*first.circles, *rest.circles)]
    assert found == made[::-1]
    assert rest.next_page_token == ""
