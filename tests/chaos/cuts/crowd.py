"""Fast, slow and quiet subscribers of one feed while services write, and the account of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import event_service_pb2 as pb
from gathering.gateway.v1.auth_service_pb2 import Tokens
from gathering_mesh.postgres import Database
from tests.chaos.cuts.doors import Door, Frame, of_message
from tests.load.http2 import Stream, streams
from tests.support.gateway import bearer
from tests.support.happenings import MemoryForgotten
from tests.support.waiting import eventually

Got = dict[str, list[tuple[int, str]]]  # position and subject by source, in the order of arrival
_QUIET, _LAST = "for_the_quiet", "the_last"
_QUIET_EVERY = 20  # events of a service, and of a transaction, to one that concerns the quiet
_SUBSCRIBE = "/gathering.gateway.v1.EventService/Subscribe"
_ASK_EVERY = 1.5  # seconds; the edge answers an address 60 times a minute
_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True, slots=True)
class Load:
    """What services write: so many events each, of so many bytes, so many a second."""

    events: int
    bytes: int
    rate: float


@dataclass(frozen=True)
class Scene:
    """A feed behind an edge, a subscriber's credentials, and the logs that are written."""

    port: int
    tokens: Tokens
    health: Any  # a channel
    logs: Mapping[str, Database]

    @property
    def tenant(self) -> str:
        """Return the tenant that all of it is about."""
        return self.tokens.user.tenant_id

    async def committed(self, *about: str) -> Got:
        """Read from the tables what is there to see, about some subjects only where given."""
        return {name: await self._committed(db, about) for name, db in self.logs.items()}

    async def _committed(self, db: Database, about: Sequence[str]) -> list[tuple[int, str]]:
        async with db.system() as tx:
            rows = await tx.fetch(
                "select position, event from log where tenant_id = $1 order by position",
                self.tenant,
            )
        found = [(row["position"], Event.FromString(row["event"]).aggregate_id) for row in rows]
        return [each for each in found if not about or each[1] in about]


@dataclass
class Reader:
    """Reads through a door, with a pause after each event for as long as it is `slow`."""

    door: Door
    pause: float = 0.0
    got: Got = field(default_factory=dict)
    gaps: list[Frame] = field(default_factory=list)
    standing: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def count(self) -> int:
        """Return how many events came."""
        return sum(map(len, self.got.values()))

    async def read(self, scene: Scene) -> None:
        """Read until the last event of each log came."""
        async with aclosing(self.door(scene.port, scene.tokens, "start")) as frames:
            async for frame in frames:
                self.standing.set()
                self._take(frame, scene)
                if _ended(self.got, scene):
                    return
                if frame.kind == "event" and self.pause and not self.hurry.is_set():
                    await asyncio.sleep(self.pause)
        raise AssertionError(f"the stream ended after {self.count} events")

    def _take(self, frame: Frame, scene: Scene) -> None:
        if frame.kind == "gap":
            self.gaps.append(frame)
        elif frame.kind == "event" and frame.source in scene.logs:
            self.got.setdefault(frame.source, []).append((frame.position, frame.about))


@dataclass
class Quiet:
    """Many whom few events concern, on raw streams."""

    count: int
    got: list[Got] = field(default_factory=list)
    greeted: set[int] = field(default_factory=set)
    problem: str = ""

    def __post_init__(self) -> None:
        self.got = [{} for _ in range(self.count)]

    def take(self, number: int, message: bytes, _: float) -> None:
        """Take a message of one of them."""
        frame = of_message(pb.SubscribeResponse.FromString(message))
        self.greeted.add(number)
        if frame.kind == "event":
            self.got[number].setdefault(frame.source, []).append((frame.position, frame.about))
        elif frame.kind != "checkpoint":
            self.problem = f"{number}: {frame}"

    @asynccontextmanager
    async def subscribed(self, scene: Scene) -> AsyncIterator[None]:
        """Subscribe, each on a stream of its own, and wait until all follow."""
        wanted = pb.EventFilter(subject_ids=[_QUIET, _LAST])
        request = pb.SubscribeRequest(filter=wanted, cursor="start").SerializeToString()
        asked = Stream(_SUBSCRIBE, request, bearer(scene.tokens))
        address = f"127.0.0.1:{scene.port}"
        async with streams(address, asked, self.count, self.take) as broken:
            await self._all(lambda n: n in self.greeted, broken, "each follows")
            yield
            await self._all(lambda n: _ended(self.got[n], scene), broken, "each has the last")

    async def _all(self, done: Any, broken: Any, what: str) -> None:
        async def reached() -> bool:
            assert not (self.problem or broken()), self.problem or broken()
            return all(map(done, range(self.count)))

        await eventually(reached, what, 180)


@dataclass
class Crowd:
    """Who subscribes; `health` counts answers that came meanwhile."""

    fast: Sequence[Reader]
    slow: Sequence[Reader]
    quiet: Quiet
    health: int = 0

    async def live(self, scene: Scene, load: Load, *, stands: Any, behind: Any) -> None:
        """Have all follow while services write, and compare what each got with the logs.

        `stands` is called before the first event, `behind` when the fast have all and the slow
        have not. The slow hurry after that.
        """
        async with self.quiet.subscribed(scene), asyncio.TaskGroup() as tasks:
            slow = [tasks.create_task(each.read(scene)) for each in self.slow]
            fast = [tasks.create_task(each.read(scene)) for each in self.fast]
            for each in (*self.slow, *self.fast):
                await each.standing.wait()
            asked = tasks.create_task(self._ask(scene))
            stands()
            await _write(scene, load)
            await asyncio.wait(fast)
            assert all(not task.done() for task in slow), "the slow did not hold up the fast"
            behind()
            for each in self.slow:
                each.hurry.set()
            await asyncio.wait(slow)
            asked.cancel()
        await self._compare(scene)

    async def _ask(self, scene: Scene) -> None:
        """Ask for health again and again, as long as all of this lasts."""
        stub: Any = health_pb2_grpc.HealthStub(scene.health)
        while True:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert answer.status == _SERVING
            self.health += 1
            await asyncio.sleep(_ASK_EVERY)

    async def _compare(self, scene: Scene) -> None:
        everything = await scene.committed()
        for each in (*self.fast, *self.slow):
            assert each.got == everything, f"{each.door}"
            assert not each.gaps
        some = await scene.committed(_QUIET, _LAST)
        assert all(each == some for each in self.quiet.got)
        assert self.health


def _ended(got: Got, scene: Scene) -> bool:
    return sum(got[name][-1][1] == _LAST for name in scene.logs if name in got) == len(scene.logs)


async def _write(scene: Scene, load: Load) -> None:
    async with asyncio.TaskGroup() as tasks:
        for db in scene.logs.values():
            tasks.create_task(_writer(db, scene.tenant, load))


async def _writer(db: Database, tenant: str, load: Load) -> None:
    filler = "x" * load.bytes
    for first in range(0, load.events, _QUIET_EVERY):
        async with db.transaction(tenant) as tx:
            tx.emit(_QUIET, MemoryForgotten(_QUIET))
            for n in range(first, min(first + _QUIET_EVERY, load.events)):
                tx.emit(f"subject_{n}", MemoryForgotten(filler))
        async with db.transaction("ten_canary") as tx:
            tx.emit(_QUIET, MemoryForgotten("canary"))
        await asyncio.sleep(_QUIET_EVERY / load.rate)
    async with db.transaction(tenant) as tx:
        tx.emit(_LAST, MemoryForgotten(_LAST))
