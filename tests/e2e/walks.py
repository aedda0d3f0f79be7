"""Ten tenants who ask everything of everybody at once, through all doors.

What is to come of it: each is told of its own alone, and what it asks about another's is answered
as if there were no such thing.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from gathering_mesh.options import field_bounds
from tests.e2e.doors import Door, Grpc, GrpcWeb, Rest, ask, http_client
from tests.e2e.doors_websocket import websockets
from tests.e2e.leaks import MARK, Ledger
from tests.e2e.mesh import LocalMesh
from tests.e2e.realms import AT_ONCE, FOR_USERS, READS, Realm, id_fields, replaced
from tests.e2e.rpcs import OPTIONS, Answer, Rpc
from tests.e2e.tenants import Tenant

# What a caller says of a row of its own and nobody looks up, as it opens nothing: whom it lets do
# what, where tools work that will not find it, where a memory is said to come from.
FREE = {
    ("SkillService.CreateGrant", "agent_id"),
    ("SessionService.CreateSession", "workspace_id"),
    ("SessionService.ImportSession", "workspace_id"),
    *(
        ("MemoryService.Remember", field)
        for field in ("agent_id", "session_id", "turn_id", "task_id", "memory_id")
    ),
}


PAGED = [
    rpc for rpc in READS if {"page_token", "cursor"} & set(rpc.method.input_type.fields_by_name)
]
MAKING = {
    "AgentService.CreateAgent",
    "SessionService.CreateSession",
    "SessionService.ImportSession",
    "CircleService.CreateCircle",
    "TaskService.CreateTask",
    "MemoryService.Remember",
    "ExecutionService.Execute",
    "TurnService.StreamChat",
}


@dataclass(frozen=True)
class Probe:
    """A call to make; `like` names the answer that an id of nothing gets."""

    who: Realm
    what: str
    rpc: Rpc
    request: Message
    like: tuple[str, int] | None = None
    allowed: frozenset[str] = frozenset({"OK"})


def fresh(request: Message) -> Any:
    """Return a copy that is no repetition of a request."""
    copy: Any = type(request)()
    copy.CopyFrom(request)
    if hasattr(copy, "request_id"):
        copy.request_id = uuid.uuid4().hex
    return copy


def own(who: Realm) -> Iterator[Probe]:
    """Yield what a tenant asks about its own."""
    for rpc in READS:
        yield Probe(who, f"own {rpc.name}", rpc, who.requests[rpc.name])
        if rpc.method.name.startswith("List"):
            yield Probe(who, f"all {rpc.name}", rpc, unfiltered(rpc, who.requests[rpc.name]))


def unfiltered(rpc: Rpc, request: Message) -> Any:
    """Return a request without what need not be set."""
    copy = fresh(request)
    for each in rpc.method.input_type.fields:
        bounds = field_bounds(each)
        if not (bounds and bounds.required):
            copy.ClearField(each.name)
    return copy


def foreign(who: Realm, victim: Realm) -> Iterator[Probe]:
    """Yield the tenant's own requests with one id in each that is the victim's."""
    for rpc, place, prefix in places(who):
        asked = replaced(fresh(who.requests[rpc.name]), place, victim.ids[prefix])
        yield Probe(who, f"foreign {prefix} in {rpc.name}", rpc, asked, (rpc.name, place))


def nothing(who: Realm) -> Iterator[Probe]:
    """Yield the same requests with an id in each that names nothing."""
    for rpc, place, prefix in places(who):
        unknown = f"{prefix}_{uuid.uuid4().hex}"
        asked = replaced(fresh(who.requests[rpc.name]), place, unknown)
        yield Probe(who, f"unknown {prefix} in {rpc.name}", rpc, asked, (rpc.name, place))


def places(who: Realm) -> Iterator[tuple[Rpc, int, str]]:
    """Yield each field of each request that takes an id of which there is one."""
    for rpc in (each for each in FOR_USERS if each.name in who.requests):
        fields = id_fields(fresh(who.requests[rpc.name]))
        for place, (_, descriptor, prefix) in enumerate(fields):
            if prefix in who.ids and (rpc.name, descriptor.name) not in FREE:
                yield rpc, place, prefix


async def loot(door: Door, who: Realm) -> dict[str, str]:
    """Return what a tenant is given to go on with: tokens of pages and cursors, by the call."""
    found = {}
    for rpc in PAGED:
        first = unfiltered(rpc, who.requests[rpc.name])
        first.page_size = 1
        page: Any = (await ask(door, rpc, first, who.tenant))[0].message
        found[rpc.name] = getattr(page, "next_page_token", "") or getattr(page, "next_cursor", "")
    return found


def stolen(who: Realm, loot: Mapping[str, str]) -> Iterator[Probe]:
    """Yield the tenant's own requests, to go on where another's list or feed was."""
    for rpc in PAGED:
        name = "page_token" if "page_token" in rpc.method.input_type.fields_by_name else "cursor"
        asked = unfiltered(rpc, who.requests[rpc.name])
        setattr(asked, name, loot[rpc.name])
        what = f"another's {name} in {rpc.name}"
        yield Probe(who, what, rpc, asked, allowed=frozenset({"OK", "INVALID_ARGUMENT"}))


def same_ids(who: Realm, request_id: str) -> Iterator[Probe]:
    """Yield mutations under a request id that all tenants use at once."""
    for rpc in FOR_USERS:
        if rpc.name in MAKING:
            asked = fresh(who.requests[rpc.name])
            asked.request_id = request_id
            yield Probe(who, f"same request id in {rpc.name}", rpc, asked)


def shape(answer: Answer) -> tuple[str, str, str]:
    """Return what an answer says, whatever it is about."""
    return answer.status, answer.reason, MARK.sub("ID", answer.text)


@dataclass
class Walk:
    """Makes probes, each through a door that fits, and keeps what came back."""

    doors: Sequence[Door]
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    expected: dict[tuple[str, int], tuple[str, str, str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def marks(self) -> set[str]:
        """Return all ids and canaries that were told and not asked about."""
        return {mark for _, _, found in self.ledger.told for mark in found}

    async def learn(self, probes: Sequence[Probe]) -> None:
        """Learn how an id of nothing is answered."""
        for probe, answer in await self._all([(self.doors[0], probe) for probe in probes]):
            assert probe.like is not None
            self.expected[probe.like] = shape(answer)

    async def one_door_each(self, probes: Sequence[Probe]) -> None:
        """Make each probe through one door."""
        chosen = [(self.chance.choice(self._fitting(probe)), probe) for probe in probes]
        self._judge(await self._all(chosen))

    async def all_doors(self, probes: Sequence[Probe]) -> None:
        """Make each probe through each door."""
        chosen = [(door, probe) for probe in probes for door in self._fitting(probe)]
        self._judge(await self._all(chosen))

    def _fitting(self, probe: Probe) -> list[Door]:
        return [door for door in self.doors if door.serves(probe.rpc)]

    def _judge(self, made: Sequence[tuple[Probe, Answer]]) -> None:
        for probe, answer in made:
            if probe.like is None and answer.status not in probe.allowed:
                self.wrong.append(f"{probe.what}: {answer}")
            if probe.like is not None and shape(answer) != self.expected[probe.like]:
                self.wrong.append(f"{probe.what}: {answer} and not {self.expected[probe.like]}")

    async def _all(self, chosen: list[tuple[Door, Probe]]) -> list[tuple[Probe, Answer]]:
        self.chance.shuffle(chosen)
        room = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(self._one(room, *each) for each in chosen))

    async def _one(self, room: asyncio.Semaphore, door: Door, probe: Probe) -> tuple[Probe, Answer]:
        async with room, asyncio.timeout(120):
            answer, heard = await ask(door, probe.rpc, probe.request, probe.who.tenant)
        what = f"{probe.what} by {door.name}"
        self.ledger.note(probe.who.tenant.tenant_id, what, probe.request, heard)
        self.count += 1
        return probe, answer


@asynccontextmanager
async def all_doors(mesh: LocalMesh, *callers: Tenant) -> AsyncGenerator[list[Door], None]:
    """Open the doors, each shared by all callers; the WebSocket is one connection for each."""
    address = f"127.0.0.1:{mesh.port}"
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(address, options=OPTIONS)
        )
        http = await stack.enter_async_context(http_client(mesh.url))
        yield [
            Grpc(channel),
            Rest(http),
            Rest(http, "sse", "text/event-stream"),
            Rest(http, "ndjson", "application/x-ndjson"),
            GrpcWeb(http),
            await stack.enter_async_context(websockets(address, *callers)),
        ]
