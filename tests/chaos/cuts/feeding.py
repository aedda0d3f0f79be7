"""Services that only write events, a subscriber whose connection is cut, and the account."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import auth_pb2
from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering_mesh.postgres import Database
from tests.chaos.cuts.doors import CUT, Door, Frame
from tests.support.edge import Edge, free_port, running_edge
from tests.support.gateway import PASSWORD, Gateway, bearer, running_gateway
from tests.support.peer_log import PeerLog, running_peer
from tests.support.postgres import TestDatabase
from tests.support.proxy import Cuts, running_proxy

SERVICES = ("memory", "skills", "probe")
_LAST = "the_last"


@dataclass
class Feeding:
    """The edge, the gateway behind it, and the services whose logs it merges."""

    gateway: Gateway
    edge: Edge
    services: dict[str, PeerLog]
    tenant: str
    member: auth.Tokens

    @property
    def port(self) -> int:
        """Return the edge's port."""
        return int(self.edge.url.rpartition(":")[2])

    async def write(self, dice: random.Random, about: str) -> None:
        """Commit a few events in one service, of which the member may see some."""
        service = dice.choice(tuple(self.services.values()))
        mine, foreign = (self.member.user.user_id,), ("usr_of_somebody",)
        audience = dice.choice(((), (), mine, foreign))
        names = [f"{about}_{n}" for n in range(dice.randint(1, 5))]
        tenant = dice.choice((self.tenant, self.tenant, self.tenant, "ten_canary"))
        await service.write(tenant, *names, audience=audience)

    async def finish(self) -> None:
        """Commit the last event of each service."""
        for service in self.services.values():
            await service.write(self.tenant, _LAST)

    async def committed(self) -> dict[str, list[tuple[int, str]]]:
        """Read from the tables what the member may see: position and subject by service."""
        return {name: await self._committed(each.db) for name, each in self.services.items()}

    async def _committed(self, db: Database) -> list[tuple[int, str]]:
        async with db.system() as tx:
            rows = await tx.fetch(
                "select position, event from log where tenant_id = $1 order by position",
                self.tenant,
            )
        events = [(row["position"], Event.FromString(row["event"])) for row in rows]
        me = self.member.user.user_id
        return [
            (position, event.aggregate_id)
            for position, event in events
            if not event.audience.user_ids or me in event.audience.user_ids
        ]


@asynccontextmanager
async def feeding(database: TestDatabase, folder: Path, **settings: Any) -> AsyncIterator[Feeding]:
    """Run it; the database has the schemas of `SERVICES` and of the gateway."""
    ports = {name: free_port() for name in SERVICES}
    given = {
        "sources": SERVICES,
        "peers": {name: f"127.0.0.1:{port}" for name, port in ports.items()},
        **settings,
    }
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        gateway = await enter(running_gateway(database, folder, **given))
        services = {
            name: await enter(running_peer(database, folder, port, service=name))
            for name, port in ports.items()
        }
        edge = await enter(running_edge(gateway, folder))
        admin = await gateway.admin()
        request = auth.CreateUserRequest(
            email="member@example.org", password=PASSWORD, role=auth_pb2.ROLE_MEMBER
        )
        await gateway.auth.CreateUser(request, metadata=bearer(admin), timeout=20)
        member = await gateway.log_in("member@example.org")
        yield Feeding(gateway, edge, services, admin.user.tenant_id, member)


@dataclass
class Subscriber:
    """Reads through a door and begins again at its last cursor whenever it is cut."""

    door: Door
    tokens: auth.Tokens
    cursor: str = "start"
    got: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    streams: int = 0
    gaps: list[Frame] = field(default_factory=list)

    async def read(self, port: int, *, until: int) -> None:
        """Read until the last event of so many services came."""
        while self._ended < until:
            self.streams += 1
            kinds = await self._one(port, until)
            cut = not kinds or kinds[-1] != "reconnect"
            assert cut or self._ended >= until, "nobody told the stream to end"

    async def _one(self, port: int, until: int) -> list[str]:
        """Read one stream to its end; return the kinds of its frames."""
        kinds: list[str] = []
        try:
            async with aclosing(self.door(port, self.tokens, self.cursor)) as frames:
                async for frame in frames:
                    kinds.append(frame.kind)
                    self._take(frame)
                    if self._ended >= until:
                        return kinds
        except CUT:
            await asyncio.sleep(0.01)
        return kinds

    def _take(self, frame: Frame) -> None:
        self.cursor = frame.cursor or self.cursor
        if frame.kind == "gap":
            self.gaps.append(frame)
        elif frame.kind == "event" and frame.source != "gateway":
            self.got.setdefault(frame.source, []).append((frame.position, frame.about))

    @property
    def _ended(self) -> int:
        return sum(events[-1][1] == _LAST for events in self.got.values())


async def cut_and_compare(feed: Feeding, door: Door, seed: int, cuts: int) -> Subscriber:
    """Cut a subscriber so often while services write; it has exactly what was committed for it."""
    plan = Cuts(seed, cuts, least=1_000, most=20_000)
    subscriber = Subscriber(door, feed.member)
    async with (
        running_proxy(feed.port, plan, delay=0.002, stall=0.1) as proxy,
        asyncio.timeout(60 + cuts),
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(subscriber.read(proxy.port, until=len(feed.services)))
        tasks.create_task(_write(feed, plan, seed))
    committed = await feed.committed()
    assert subscriber.got == committed, f"seed {seed}"
    assert not subscriber.gaps
    assert plan.done.total() == cuts
    return subscriber


async def _write(feed: Feeding, plan: Cuts, seed: int) -> None:
    """Write for as long as there are connections to cut, by three writers."""
    async with asyncio.TaskGroup() as tasks:
        for n in range(3):
            tasks.create_task(_writer(feed, plan, random.Random(f"{seed} {n}"), f"w{n}"))  # noqa: S311
    await feed.finish()


async def _writer(feed: Feeding, plan: Cuts, dice: random.Random, name: str) -> None:
    written = 0
    while plan.left:
        written += 1
        await feed.write(dice, f"{name}_{written}")
        await asyncio.sleep(dice.random() * 0.01)
