"""Who calls in the tests of memory: users of two tenants, and services that act for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import grpc

from gathering.memory.v1 import memory_pb2 as pb
from gathering.memory.v1 import memory_service_pb2 as service_pb
from gathering.memory.v1 import memory_service_pb2_grpc as stubs
from gathering_memory.app import MemoryApp
from gathering_mesh.client import peer
from gathering_mesh.ids import new_id
from gathering_mesh.keys import SigningKey
from tests.support.postgres import TestDatabase
from tests.support.probe import Authority, headers
from tests.support.waiting import eventually

PRIVATE = pb.SCOPE_KIND_PRIVATE
PERSONAL = pb.SCOPE_KIND_PERSONAL
CIRCLE = pb.SCOPE_KIND_CIRCLE
PROJECT = pb.SCOPE_KIND_PROJECT
TENANT = pb.SCOPE_KIND_TENANT
SECONDS = 20


class Issuer(Authority):
    """Issues tokens of users and of the services that call memory."""

    def __init__(self) -> None:
        super().__init__()
        self.actors = {name: SigningKey.generate() for name in ("agent", "orchestrator", "gateway")}


def scope(kind: pb.ScopeKind.ValueType, scope_id: str = "") -> pb.Scope:
    """Return a scope."""
    return pb.Scope(kind=kind, id=scope_id)


@dataclass(frozen=True)
class Caller:
    """A user, alone or through a service, with the RPCs of memory at hand.

    Refusals are raised as the errors that a service would see.
    """

    service: Service
    tenant: str
    user: str
    role: str = "member"
    actor: str = ""
    scopes: str = "memory.read memory.write"

    def through(self, actor: str) -> Caller:
        """Return the same user behind a service."""
        return replace(self, actor=actor)

    async def call(self, rpc: str, request: Any, stub: str = "MemoryService") -> Any:
        """Call an RPC."""
        issuer = self.service.issuer
        token = issuer.user(self.scopes, tenant=self.tenant, sub=self.user, role=self.role)
        actor = issuer.actor(self.actor) if self.actor else None
        method = getattr(getattr(stubs, f"{stub}Stub")(self.service.channel), rpc)
        with peer("memory"):
            return await method(request, metadata=headers(token, actor), timeout=SECONDS)

    async def remember(
        self, text: str, kind: pb.ScopeKind.ValueType = PRIVATE, scope_id: str = "", **fields: Any
    ) -> pb.Memory:
        """Remember a text."""
        request = service_pb.RememberRequest(text=text, scope=scope(kind, scope_id), **fields)
        memory: pb.Memory = await self.call("Remember", request)
        return memory

    async def recall(self, query: str, **fields: Any) -> list[str]:
        """Return the texts that are found, best first."""
        return [hit.memory.text for hit in (await self.hits(query, **fields)).hits]

    async def hits(self, query: str, **fields: Any) -> service_pb.RecallResponse:
        """Return what is found."""
        request = service_pb.RecallRequest(query=query, **fields)
        found: service_pb.RecallResponse = await self.call("Recall", request)
        return found

    async def get(self, memory_id: str) -> pb.Memory:
        """Read a memory."""
        request = service_pb.GetMemoryRequest(memory_id=memory_id)
        memory: pb.Memory = await self.call("GetMemory", request)
        return memory

    async def page(self, **fields: Any) -> service_pb.ListMemoriesResponse:
        """List memories."""
        request = service_pb.ListMemoriesRequest(**fields)
        page: service_pb.ListMemoriesResponse = await self.call("ListMemories", request)
        return page

    async def share(
        self, memory_id: str, kind: pb.ScopeKind.ValueType, scope_id: str = "", **fields: Any
    ) -> pb.Memory:
        """Share a memory."""
        request = service_pb.ShareMemoryRequest(
            memory_id=memory_id, scope=scope(kind, scope_id), **fields
        )
        memory: pb.Memory = await self.call("ShareMemory", request)
        return memory

    async def forget(self, memory_id: str, **fields: Any) -> pb.Memory:
        """Forget a memory."""
        request = service_pb.ForgetMemoryRequest(memory_id=memory_id, **fields)
        memory: pb.Memory = await self.call("ForgetMemory", request)
        return memory

    async def set_members(self, of: pb.Scope, version: int, *members: str) -> pb.ScopeMembers:
        """Tell who belongs to a scope, as the orchestrator does."""
        told = pb.ScopeMembers(
            scope=of,
            version=version,
            agent_ids=[member for member in members if member.startswith("agt_")],
            user_ids=[member for member in members if member.startswith("usr_")],
        )
        request = service_pb.SetScopeMembersRequest(members=told)
        orchestrator = self.through("orchestrator")
        known: pb.ScopeMembers = await orchestrator.call(
            "SetScopeMembers", request, "MembershipService"
        )
        return known

    async def embedded(self, *memories: pb.Memory) -> None:
        """Wait until these have their vectors."""

        async def done() -> bool:
            return all([(await self.get(memory.memory_id)).embedded for memory in memories])

        await eventually(done, "memories are embedded")


@dataclass(frozen=True)
class Service:
    """A running memory service."""

    app: MemoryApp
    database: TestDatabase
    issuer: Authority
    channel: grpc.aio.Channel
    address: str = ""

    def caller(self, tenant: str = "", **fields: Any) -> Caller:
        """Return a new user, of a new tenant unless one is named."""
        return Caller(self, tenant or new_id("ten"), new_id("usr"), **fields)
