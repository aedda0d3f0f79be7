"""Tenants with one of everything, and what of it is good for asking others about it."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from gathering.skills.v1 import execution_pb2
from gathering_mesh.options import field_bounds
from tests.e2e.makers import SECRET_FILE, Maker
from tests.e2e.mesh import LocalMesh
from tests.e2e.recipes import RECIPES
from tests.e2e.recipes_agents import Recipe
from tests.e2e.rpcs import Rpc, all_rpcs, is_ours, strings
from tests.e2e.tenants import Tenant, new_tenants

T = TypeVar("T")
AT_ONCE = 16  # calls; many enough to meet in every pool, few enough to be answered soon
FOR_USERS = [rpc for rpc in all_rpcs() if rpc.for_users]
SUBSCRIBE = next(rpc for rpc in FOR_USERS if rpc.name == "EventService.Subscribe")
READS = [
    rpc
    for rpc in FOR_USERS
    if re.match("Get|List|Watch|Read|Recall", rpc.method.name) and not rpc.mutation
]
ID = re.compile(r"\b([a-z]{3})_[0-9a-f]{32}")


@dataclass(frozen=True)
class Keeper(Maker):
    """A maker that makes one of each kind and then returns that one."""

    made: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    async def _once(self, kind: str, make: Callable[[], Awaitable[T]]) -> T:
        if kind not in self.made:
            self.made[kind] = asyncio.ensure_future(make())
        found: T = await self.made[kind]
        return found

    @property
    def _plain(self) -> Maker:
        return Maker(self.mesh, self.folder, self.canary)

    async def agent(self) -> str:
        return await self._once("agent", super().agent)

    async def session(self) -> str:
        return await self._once("session", super().session)

    async def turn(self) -> str:
        return await self._once("turn", self._plain.turn)

    async def memory(self) -> str:
        return await self._once("memory", super().memory)

    async def workspace(self) -> str:
        return await self._once("workspace", super().workspace)

    async def grant(self) -> str:
        return await self._once("grant", super().grant)

    async def execution(self) -> str:
        return await self._once("execution", super().execution)

    async def question(self) -> execution_pb2.Execution:
        return await self._plain.question()  # of an agent whose grants nobody else replaces

    async def offer(self) -> tuple[str, str]:
        return await self._once("offer", self._plain.offer)

    async def task(self, *members: Any) -> str:
        return await self._once("task", self._plain.task)

    async def escalated(self) -> str:
        return await self._once("escalated", self._plain.escalated)

    async def delegation(self) -> str:
        return await self._once("delegation", super().delegation)

    async def user(self) -> str:
        return await self._once("user", super().user)

    async def invitation(self) -> str:
        return await self._once("invitation", super().invitation)

    async def api_key(self) -> Any:
        return await self._once("api_key", super().api_key)


@dataclass(frozen=True)
class Realm:
    """A tenant that has one of everything; `requests` are about that."""

    tenant: Tenant
    canary: str
    requests: dict[str, Message]

    @property
    def ids(self) -> dict[str, str]:
        """One id of each kind, by its prefix."""
        found = {}
        for request in self.requests.values():
            for text in strings(request):
                found.update({match[1]: match[0] for match in ID.finditer(text)})
        return found


async def furnished(tenant: Tenant, folder: Path, room: asyncio.Semaphore) -> Realm:
    """Make one of everything in a tenant, by asking for a good request of each RPC."""
    async with tenant.client() as client:
        maker = Keeper(client, str(folder))
        (folder / SECRET_FILE).write_text(f"the secret of {maker.canary}\n")
        names = [rpc.name for rpc in FOR_USERS]
        found = await asyncio.gather(*(_in(room, RECIPES[name], maker) for name in names))
    return Realm(tenant, maker.canary, dict(zip(names, found, strict=True)))


def new_realms(mesh: LocalMesh, folders: Sequence[Path]) -> list[Realm]:
    """Make a tenant for each folder, and in all of them at once one of everything."""
    run = uuid.uuid4().hex[:8]
    emails = [f"admin@{run}-{number}.example" for number in range(len(folders))]
    tenants = new_tenants(mesh, *emails)

    async def all_of_them() -> list[Realm]:
        room = asyncio.Semaphore(AT_ONCE)
        pairs = zip(tenants, folders, strict=True)
        return await asyncio.gather(*(furnished(*each, room) for each in pairs))

    return asyncio.run(all_of_them())


async def _in(room: asyncio.Semaphore, recipe: Recipe, maker: Maker) -> Message:
    async with room:
        return await recipe(maker)


def id_fields(message: Message) -> Iterator[tuple[Message, Any, str]]:
    """Yield the fields of a request that take ids, set or not: where, which, prefix."""
    fields: Any = message.DESCRIPTOR.fields
    for descriptor in fields:
        bounds = field_bounds(descriptor)
        if bounds is not None and bounds.id:
            yield message, descriptor, bounds.id
        elif is_ours(descriptor):
            yield from id_fields(getattr(message, descriptor.name))
        elif descriptor.is_repeated and descriptor.message_type is not None:
            for each in getattr(message, descriptor.name)[:1]:
                if isinstance(each, Message):
                    yield from id_fields(each)


def replaced(request: Message, place: int, id: str) -> Message:
    """Return a copy of a request with an id in the field that `id_fields` yields at this place."""
    copy = type(request)()
    copy.CopyFrom(request)
    holder, descriptor, _ = list(id_fields(copy))[place]
    if descriptor.is_repeated:
        del getattr(holder, descriptor.name)[:]
        getattr(holder, descriptor.name).append(id)
    else:
        setattr(holder, descriptor.name, id)
    return copy


def rpc_named(name: str) -> Rpc:
    """Return an RPC for users."""
    return next(rpc for rpc in FOR_USERS if rpc.name == name)
