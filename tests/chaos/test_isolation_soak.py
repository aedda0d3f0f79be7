"""Ten tenants, each asking about each of the others through every door: `make soak`.

`SEED=` repeats the order, `REPLICAS=` says of how many. The feeds of all ten are read meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from pathlib import Path

import pytest

from gathering.gateway.v1 import event_service_pb2
from tests.chaos.mesh import ChaosMesh, chaos_mesh
from tests.chaos.test_soak import REPLICAS, say
from tests.e2e.feeds import Feed, complete, following
from tests.e2e.leaks import owners
from tests.e2e.realms import SUBSCRIBE, Realm, new_realms
from tests.e2e.walks import Probe, Walk, all_doors, foreign, loot, nothing, own, same_ids, stolen

TENANTS = int(os.environ.get("TENANTS", "10"))


@pytest.mark.timeout(4 * 3600)
def test_no_tenant_learns_of_another_at_any_door(tmp_path: Path) -> None:
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    say(f"\nisolation: SEED={seed} TENANTS={TENANTS} REPLICAS={REPLICAS}")
    folders = [tmp_path / str(number) for number in range(TENANTS)]
    for folder in folders:
        folder.mkdir()
    with chaos_mesh(REPLICAS) as mesh:
        realms = new_realms(mesh, folders)
        wrong = asyncio.run(_walked(mesh, realms, random.Random(seed)))  # noqa: S311 - repeatable
    assert wrong == []


async def _walked(mesh: ChaosMesh, realms: list[Realm], chance: random.Random) -> list[str]:
    """Let all ask all; return what is wrong."""
    walk = Walk([], chance)
    for distance in range(1, len(realms)):
        for each in realms:
            each.tenant.renew()  # streams end with the token, and a round is shorter
        async with all_doors(mesh, *(each.tenant for each in realms)) as walk.doors:
            await _round(mesh, walk, realms, distance)
        say(f"  {walk.count} calls, {len(walk.wrong)} wrong answers")
    found = await owners(mesh.dsn, {each.tenant.tenant_id for each in realms})
    return [*walk.wrong, *walk.ledger.leaks(found)]


async def _round(mesh: ChaosMesh, walk: Walk, realms: list[Realm], distance: int) -> None:
    """Let each ask about its own, and about the tenant that is so far away."""
    streams = [door for door in walk.doors if door.serves(SUBSCRIBE)]
    feeds = [Feed(door, who.tenant) for who in realms for door in streams]
    async with following(*feeds):
        await walk.learn(list(nothing(realms[0])))
        loots = await asyncio.gather(*(loot(walk.doors[0], each) for each in realms))
        once: list[Probe] = []
        through_all: list[Probe] = []
        for place, who in enumerate(realms):
            victim = (place + distance) % len(realms)
            through_all += [*own(who), *foreign(who, realms[victim]), *stolen(who, loots[victim])]
            once += same_ids(who, f"the same of all, {distance}")
        await walk.one_door_each(once)
        await walk.all_doors(through_all)
        walk.wrong += await complete(feeds, mesh.dsn)
    for feed in feeds:
        asked = event_service_pb2.SubscribeRequest()
        walk.ledger.note(feed.who.tenant_id, f"feed of {feed.name}", asked, feed.heard)
