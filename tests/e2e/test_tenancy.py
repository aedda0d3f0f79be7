"""Tenants never mix: whatever one asks with the other's ids, it gets nothing of the other's."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from gathering.gateway.v1 import event_service_pb2
from gathering_mesh.options import field_bounds
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.recipes import RECIPES
from tests.e2e.rpcs import Answer, Rpc, all_rpcs, strings
from tests.e2e.tenants import Tenant
from tests.support.waiting import eventually

RPCS = all_rpcs()
FOR_USERS = [rpc for rpc in RPCS if rpc.for_users]
ID = re.compile(
    r"(?:usr|key|dlg|agt|bgt|ses|msg|trn|stp|crc|mbr|tsk|off|rev|art|mem|wsp|exe|grt|inv|lgn|pky)_\w{32}"
)
# Answers that are lists, so that nothing of another tenant's is an empty one.
LISTS = re.compile(r"\.(List\w+|Recall|Subscribe)$")
# The skills service keeps grants by the ids of agents and does not ask whether there are such:
# a grant for an id of another tenant is a row of the caller's own tenant and lets nobody do
# anything. Its answer repeats what the caller said.
OWN_ROW = {"SkillService.CreateGrant"}

# A directory is a workspace of one tenant.
# Nobody tells a test the password of another, nor does the test change its own.
REFUSALS = {
    "WorkspaceService.CreateWorkspace": "WORKSPACE_ROOT_REFUSED",
    "UserService.ChangePassword": "CREDENTIALS_INVALID",
}


def ids(message: Message) -> Iterator[str]:
    """Yield the ids of resources that a message holds."""
    for text in strings(message):
        yield from ID.findall(text)


def items(answer: Answer) -> list[Message]:
    """Return what a list or stream holds: the elements of each message, or the event of a frame."""
    found: list[Message] = []
    for message in answer.messages:
        if isinstance(message, event_service_pb2.SubscribeResponse):
            found += [message.event] if message.HasField("event") else []
            continue
        for field, value in message.ListFields():
            if field.is_repeated and field.message_type is not None:
                found += value
    return found


@dataclass(frozen=True)
class Sides:
    """Two tenants of one mesh, each with a maker of its own objects."""

    edge: grpc.aio.Channel
    tenants: tuple[Tenant, Tenant]
    maker: Maker
    other_maker: Maker

    async def own(self, rpc: Rpc, request: Any) -> Answer:
        """Ask as the first tenant's administrator."""
        return await self._ask(rpc, request, self.tenants[0], self.maker)

    async def other(self, rpc: Rpc, request: Any) -> Answer:
        """Ask as the second tenant's administrator."""
        return await self._ask(rpc, request, self.tenants[1], self.other_maker)

    async def _ask(self, rpc: Rpc, request: Any, tenant: Tenant, maker: Maker) -> Answer:
        if not isinstance(request, event_service_pb2.SubscribeRequest):
            return await rpc.call(self.edge, request, tenant.headers, timeout=20)
        # The feed has no end: it is read up to an event of the caller's own that comes last.
        marked = event_service_pb2.SubscribeRequest()
        marked.CopyFrom(request)
        marker = await maker.agent()
        if marked.filter.subject_ids:
            marked.filter.subject_ids.append(marker)
        answer = await rpc.call(
            self.edge,
            marked,
            tenant.headers,
            last=lambda frame: frame.event.event.aggregate_id == marker,
            timeout=20,
        )
        del answer.messages[-1:]
        return answer


@pytest.fixture
async def sides(
    edge: grpc.aio.Channel,
    tenant: Tenant,
    other_tenant: Tenant,
    maker: Maker,
    folders: tuple[Path, Path],
) -> AsyncIterator[Sides]:
    """Return both tenants."""
    async with other_tenant.client() as client:
        yield Sides(edge, (tenant, other_tenant), maker, Maker(client, str(folders[1])))


def test_every_rpc_has_a_recipe() -> None:
    """A new RPC fails here until somebody has thought about its tenants."""
    assert {rpc.name for rpc in FOR_USERS} == set(RECIPES)
    for rpc in RPCS:
        assert rpc.for_users or rpc.rule.public or rpc.rule.actors or rpc.rule.internal, rpc.name


@pytest.mark.parametrize("rpc", FOR_USERS, ids=lambda rpc: rpc.name)
async def test_ids_of_another_tenant_lead_to_nothing(rpc: Rpc, sides: Sides) -> None:
    canary = sides.maker.canary
    request = await RECIPES[rpc.name](sides.maker)
    mentioned = set(ids(request))
    answer = await sides.other(rpc, request)
    if not mentioned:
        assert answer.status == "OK" or answer.reason == REFUSALS.get(rpc.name), answer
        return
    if rpc.name not in OWN_ROW and not LISTS.search(rpc.name):
        assert answer.status == "NOT_FOUND", answer
    assert answer.status in {"OK", "NOT_FOUND"}, answer
    assert items(answer) == []
    for message in answer.messages:
        assert canary not in str(message)
        assert rpc.name in OWN_ROW or mentioned.isdisjoint(ids(message))
    assert canary not in f"{answer.text} {answer.fields}"
    again = await sides.own(rpc, request)
    assert again.status == "OK", f"what the other tenant did had an effect: {again}"


# Lists of what is the same for all.
CATALOGUES = {
    "AgentService.ListAgentTemplates",
    "ModelService.ListModels",
    "SkillService.ListSkills",
}
LISTING = [rpc for rpc in FOR_USERS if LISTS.search(rpc.name) and rpc.name not in CATALOGUES]


@pytest.mark.parametrize("rpc", LISTING, ids=lambda rpc: rpc.name)
async def test_lists_and_streams_show_nothing_of_another_tenant(rpc: Rpc, sides: Sides) -> None:
    request = await RECIPES[rpc.name](sides.maker)
    own = Answer("")

    async def seen() -> bool:  # what was just made is in the feed a moment later
        nonlocal own
        own = await sides.own(rpc, request)
        return bool(items(own))

    await eventually(seen, "there is something that another could see")
    known = {found for message in own.messages for found in ids(message)} | set(ids(request))
    for message in await _everything(rpc, sides):
        assert sides.maker.canary not in str(message)
        assert known.isdisjoint(ids(message))


async def _everything(rpc: Rpc, sides: Sides) -> list[Message]:
    """Return all pages of the second tenant's list, with no filter but what must be set."""
    request: Any = await RECIPES[rpc.name](sides.other_maker)
    for field in rpc.method.input_type.fields:
        bounds = field_bounds(field)
        if not (bounds and bounds.required) and field.name != "cursor":
            request.ClearField(field.name)
    pages: list[Any] = []
    while True:
        answer = await sides.other(rpc, request)
        assert answer.status == "OK", answer
        pages += answer.messages
        if token := getattr(pages[-1], "next_page_token", ""):
            request.page_token = token
        elif getattr(pages[-1], "end", True):
            return pages
        else:
            request.cursor = pages[-1].next_cursor


@pytest.mark.parametrize(
    "name",
    [
        "AgentService.CreateAgent",
        "AuthService.CreateUser",
        "CircleService.CreateCircle",
        "MemoryService.Remember",
        "WorkspaceService.CreateWorkspace",
    ],
)
async def test_the_same_request_id_in_two_tenants_names_two_requests(
    name: str, sides: Sides
) -> None:
    rpc = next(rpc for rpc in FOR_USERS if rpc.name == name)
    first: Any = await RECIPES[name](sides.maker)
    second: Any = await RECIPES[name](sides.other_maker)
    first.request_id = second.request_id = uuid.uuid4().hex
    mine, theirs = await sides.own(rpc, first), await sides.other(rpc, second)
    assert (mine.status, theirs.status) == ("OK", "OK"), theirs
    assert set(ids(mine.message)).isdisjoint(ids(theirs.message))


PAGED = [rpc for rpc in LISTING if "page_token" in rpc.method.input_type.fields_by_name]


@pytest.mark.parametrize("rpc", PAGED, ids=lambda rpc: rpc.name)
async def test_page_token_of_another_tenant_is_of_no_use(rpc: Rpc, sides: Sides) -> None:
    await RECIPES[rpc.name](sides.maker)
    request: Any = await RECIPES[rpc.name](sides.maker)
    request.page_size = 1
    own = await sides.own(rpc, request)
    request.page_token = own.message.next_page_token
    if not request.page_token:
        return  # All of it is on one page.
    stolen = await sides.other(rpc, request)
    assert stolen.status in {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    for message in stolen.messages:
        assert sides.maker.canary not in str(message)
        assert set(ids(own.message)).isdisjoint(ids(message))


@pytest.mark.parametrize("below", ["", "keys", "keys/users", "postgres", "secrets", ".."])
async def test_what_the_mesh_keeps_is_no_workspace(
    mesh: LocalMesh, edge: grpc.aio.Channel, other_tenant: Tenant, below: str
) -> None:
    """Who reads the keys of the mesh is every user of every tenant."""
    rpc = next(rpc for rpc in FOR_USERS if rpc.name == "WorkspaceService.CreateWorkspace")
    request = rpc.request(path=str((mesh.folder / below).resolve()))
    answer = await rpc.call(edge, request, other_tenant.headers)
    assert (answer.status, answer.reason) == ("INVALID_ARGUMENT", "WORKSPACE_ROOT_REFUSED")
