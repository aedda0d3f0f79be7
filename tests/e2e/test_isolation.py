"""Several tenants at once, through all doors: each is told of its own and of nobody else's."""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import sys
import uuid
from base64 import b64encode
from contextlib import AsyncExitStack

import grpc
import pytest
from redis.asyncio import Redis

from gathering.agent.v1 import turn_pb2, turn_service_pb2
from gathering.gateway.v1 import event_service_pb2
from tests.chaos.mesh import superuser_dsn
from tests.e2e.doors import Grpc, Heard, ask
from tests.e2e.feeds import Feed, complete, following
from tests.e2e.leaks import Ledger, Owners, owners
from tests.e2e.makers import Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.realms import SUBSCRIBE, Realm, new_realms, rpc_named
from tests.e2e.tenants import Tenant
from tests.e2e.walks import (
    Probe,
    Walk,
    all_doors,
    foreign,
    loot,
    nothing,
    own,
    same_ids,
    shape,
    stolen,
)

TENANTS = int(os.environ.get("TENANTS", "4"))  # ten in the soak


@pytest.fixture(scope="module")
def realms(mesh: LocalMesh, tmp_path_factory: pytest.TempPathFactory) -> list[Realm]:
    """Return tenants with one of everything, all made at once."""
    return new_realms(mesh, [tmp_path_factory.mktemp("realm") for _ in range(TENANTS)])


@pytest.fixture
def chance() -> random.Random:
    """Return the order of things, which a seed repeats."""
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    sys.stdout.write(f"SEED={seed}\n")
    return random.Random(seed)  # noqa: S311 - repeatable


def test_leak_is_seen_in_whatever_it_is_packed() -> None:
    """What the tests below rest on."""
    agent, canary = f"agt_{uuid.uuid4().hex}", f"canary{uuid.uuid4().hex}"
    secret, asked = f"of {agent} and {canary}", rpc_named("AgentService.GetAgent").request()
    packed = b64encode(secret.encode()).decode()
    whose = Owners({agent: "theirs"}, {canary: {"theirs"}})
    for text in (secret, f"x-header: {secret}", f'{{"content": "{packed}"}}', f"data: {packed}"):
        ledger = Ledger()
        ledger.note("ours", "an answer", asked, Heard([text]))
        assert len(list(ledger.leaks(whose))) == 2, text
        ledger = Ledger()
        ledger.note("theirs", "an answer", asked, Heard([text]))
        assert list(ledger.leaks(whose)) == []
    asked.agent_id = agent
    ledger = Ledger()
    ledger.note("ours", "a refusal", asked, Heard([f"there is no agent {agent}"]))
    assert list(ledger.leaks(whose)) == []


async def test_nobody_is_told_of_another_tenant(
    mesh: LocalMesh, realms: list[Realm], chance: random.Random
) -> None:
    async with all_doors(mesh, *(each.tenant for each in realms)) as doors:
        walk = Walk(doors, chance)
        await walk.learn(list(nothing(realms[0])))
        loots = await asyncio.gather(*(loot(doors[0], each) for each in realms))
        request_id, probes = uuid.uuid4().hex, list[Probe]()
        for place, who in enumerate(realms):
            victim = chance.choice([each for each in range(TENANTS) if each != place])
            probes += [*own(who), *foreign(who, realms[victim]), *stolen(who, loots[victim])]
            probes += same_ids(who, request_id)
        await walk.one_door_each(probes)
    found = await owners(superuser_dsn(mesh), {each.tenant.tenant_id for each in realms})
    assert walk.wrong == []
    assert list(walk.ledger.leaks(found)) == []


async def test_feed_is_exactly_what_was_committed_for_the_tenant(
    mesh: LocalMesh, realms: list[Realm]
) -> None:
    dsn, ledger = superuser_dsn(mesh), Ledger()
    tenants = [each.tenant for each in realms]
    async with all_doors(mesh, *tenants) as doors:
        streams = [door for door in doors if door.serves(SUBSCRIBE)]
        feeds = [Feed(door, who) for who in tenants for door in streams]
        async with following(*feeds):
            await asyncio.gather(*(_write(each) for each in tenants))
            assert await complete(feeds, dsn) == []
    for feed in feeds:
        asked = event_service_pb2.SubscribeRequest()
        ledger.note(feed.who.tenant_id, f"feed of {feed.name}", asked, feed.heard)
    found = await owners(dsn, {each.tenant_id for each in tenants})
    assert list(ledger.leaks(found)) == []


async def _write(tenant: Tenant) -> None:
    async with tenant.client() as client:
        maker = Maker(client, "")
        for make in (maker.turn, maker.memory, maker.circle, maker.user):
            await make()


async def test_running_turn_is_unknown_to_others_at_every_replica(
    mesh: LocalMesh, realms: list[Realm]
) -> None:
    owner, *others = realms
    watch = rpc_named("TurnService.WatchTurn")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(owner.tenant.client())
        session_id = await Maker(client, "").session()
        doors = [
            Grpc(await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address(part))))
            for part in mesh.of("agent")
        ]
        assert len(doors) == mesh.replicas
        turn = await client.turns.StartTurn(
            turn_service_pb2.StartTurnRequest(session_id=session_id, text=owner.canary)
        )
        request = watch.request(turn_id=turn.turn_id)
        refused = await asyncio.gather(
            *(ask(door, watch, request, each.tenant) for door in doors for each in others)
        )
        assert {shape(answer)[:2] for answer, _ in refused} == {("NOT_FOUND", "NOT_FOUND")}
        seen = await asyncio.gather(*(ask(door, watch, request, owner.tenant) for door in doors))
        assert [answer.status for answer, _ in seen] == ["OK"] * len(doors)


async def _watch_elsewhere(mesh: LocalMesh, tenant: Tenant) -> None:
    """Watch a turn at every replica from before it begins: it waits for those before it."""
    watch = rpc_named("TurnService.WatchTurn")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(tenant.client())
        session_id = await Maker(client, "").session()
        asked = turn_service_pb2.StartTurnRequest(
            session_id=session_id, text="say hello", if_busy=turn_pb2.IF_BUSY_QUEUE
        )
        turns = [await client.turns.StartTurn(asked) for _ in range(8)]
        doors = [
            Grpc(await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address(part))))
            for part in mesh.of("agent")
        ]
        request = watch.request(turn_id=turns[-1].turn_id)
        await asyncio.gather(*(ask(door, watch, request, tenant) for door in doors))


async def test_text_in_redis_stands_under_the_id_of_its_tenants_turn(
    mesh: LocalMesh, realms: list[Realm]
) -> None:
    """Nothing there has a name that could be guessed; whoever reads one is shown its own turn.

    Which turns have text there depends on who was quicker: that is seen in the tests of deltas.
    """
    await asyncio.gather(*(_watch_elsewhere(mesh, each.tenant) for each in realms[:2]))
    url = mesh.environment_of("agent")["GATHERING_REDIS_URL"]
    async with Redis.from_url(url) as redis:
        keys = [key.decode() async for key in redis.scan_iter()]
    assert "gathering:agent:wanted" in keys, keys
    named = re.compile("gathering:agent:(deltas:trn_[0-9a-f]{32}|wake:rep_[0-9a-f]{32}|wanted)")
    assert [key for key in keys if not named.fullmatch(key)] == []
