"""What is one user's stays that user's: other members and viewers of the tenant do not see it.

Administrators do, which shows that there was something to see.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

from gathering.agent.v1 import session_service_pb2, turn_service_pb2
from gathering.gateway.v1 import auth_pb2
from gathering.memory.v1 import memory_service_pb2
from tests.chaos.mesh import superuser_dsn
from tests.e2e.doors import Door
from tests.e2e.feeds import Feed, complete, following
from tests.e2e.leaks import marks
from tests.e2e.makers import SECRET_FILE, Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.realms import READS, Keeper, Realm, id_fields, replaced, rpc_named
from tests.e2e.recipes import RECIPES
from tests.e2e.tenants import Tenant, new_tenants, new_user
from tests.e2e.walks import Probe, Walk, all_doors, fresh, nothing, unfiltered

RECALL = rpc_named("MemoryService.Recall")


async def private(admin: Maker, who: Tenant) -> tuple[str, dict[str, str]]:
    """Make what is the user's own alone; return its canary and the ids by prefix."""
    agent_id, workspace_id = await admin.agent(), await admin.workspace()
    async with who.client() as client:
        maker = Maker(client, "")
        session = await client.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(agent_id=agent_id, title=maker.text())
        )
        chat = turn_service_pb2.ChatRequest(session_id=session.session_id, text=maker.text())
        call = await admin.tool_call()
        call.workspace_id = workspace_id
        found = await asyncio.gather(
            client.turns.Chat(chat), maker.memory(), client.executions.Execute(call),
            maker.api_key(),
        )  # fmt: skip
    turn, memory_id, execution, key = found
    ids = [session.session_id, turn.turn_id, memory_id, execution.execution_id]
    return maker.canary, {each[:3]: each for each in [*ids, key.api_key.api_key_id]}


def about(who: Realm, ids: dict[str, str]) -> Iterator[Probe]:
    """Yield all reads, about another user's ids where they take such, and without any filter."""
    for rpc in READS:
        request = who.requests[rpc.name]
        fields = enumerate(id_fields(fresh(request)))
        of_theirs = [(place, prefix) for place, (_, _, prefix) in fields if prefix in ids]
        for place, prefix in of_theirs:
            asked = replaced(fresh(request), place, ids[prefix])
            yield Probe(who, f"{prefix} in {rpc.name}", rpc, asked, (rpc.name, place))
        if rpc.method.name.startswith("List") and not of_theirs:
            allowed = frozenset({"OK", "PERMISSION_DENIED"})
            yield Probe(who, rpc.name, rpc, unfiltered(rpc, request), allowed=allowed)
    recall = memory_service_pb2.RecallRequest(query="fact text of a member")
    yield Probe(who, "recall", RECALL, recall)


async def ask_all(doors: list[Door], who: Realm, ids: dict[str, str], canary: str) -> Walk:
    """Ask all of it, each thing through one door."""
    walk = Walk(doors, random.Random(canary))  # noqa: S311 - repeatable
    await walk.learn([probe for probe in nothing(who) if probe.rpc in READS])
    await walk.one_door_each(list(about(who, ids)))
    return walk


async def test_what_ownership_hides_is_hidden_at_every_door(
    mesh: LocalMesh, tmp_path: Path
) -> None:
    (tmp_path / SECRET_FILE).write_text("for all of the tenant\n")
    email = f"admin@{uuid.uuid4().hex}.example"
    (tenant,) = await asyncio.to_thread(new_tenants, mesh, email)
    roles = (auth_pb2.ROLE_MEMBER, auth_pb2.ROLE_MEMBER, auth_pb2.ROLE_VIEWER)
    owner, *others = users = [await new_user(mesh, tenant, role) for role in roles]
    async with all_doors(mesh, tenant, *users) as doors, tenant.client() as client:
        feeds = [Feed(doors[0], each) for each in (tenant, *users)]
        async with following(*feeds):
            admin = Keeper(client, str(tmp_path))
            requests = {rpc.name: await RECIPES[rpc.name](admin) for rpc in READS}
            canary, ids = await private(admin, owner)
            for who in others:
                walk = await ask_all(doors, Realm(who, "", requests), ids, canary)
                assert walk.wrong == []
                assert walk.marks & {canary, *ids.values()} == set()
            walk = await ask_all(doors, Realm(tenant, "", requests), ids, canary)
            assert canary in walk.marks, "there is nothing that could be hidden"
            assert await complete(feeds, superuser_dsn(mesh)) == []
    told = [marks(feed.heard.texts) & set(ids.values()) for feed in feeds]
    assert told[:2] == [set(ids.values())] * 2
    assert told[2:] == [set(), set()]
