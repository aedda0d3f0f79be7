"""MembershipService: convert, call the verb, convert."""

from __future__ import annotations

from dataclasses import dataclass

from gathering.memory.v1 import memory_pb2
from gathering.memory.v1 import memory_service_pb2 as pb
from gathering_memory import convert
from gathering_memory.belonging import Belonging
from gathering_mesh.call import Call


@dataclass(frozen=True, slots=True)
class MembershipServicer:
    """Serves `gathering.memory.v1.MembershipService`."""

    belonging: Belonging

    async def SetScopeMembers(
        self, request: pb.SetScopeMembersRequest, call: Call
    ) -> memory_pb2.ScopeMembers:
        """Take the members of a scope."""
        members = convert.members_of(request.members)
        return convert.members_message(await self.belonging.replace(call, members))

    async def GetScopeMembers(
        self, request: pb.GetScopeMembersRequest, call: Call
    ) -> memory_pb2.ScopeMembers:
        """Read the members of a scope."""
        scope = convert.scope_of(request.scope)
        return convert.members_message(await self.belonging.find(call, scope))
