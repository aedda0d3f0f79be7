"""The memory service: who belongs to a circle's scope."""

from __future__ import annotations

from collections.abc import Sequence

from gathering.memory.v1 import memory_pb2, memory_service_pb2, memory_service_pb2_grpc
from gathering_mesh.call import Call
from gathering_mesh.client import Channels, peer

_PEER = "memory"


class MemoryClient:
    """See `ports.Memory`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._stub = memory_service_pb2_grpc.MembershipServiceStub(channels.to(_PEER))

    async def set_members(
        self,
        call: Call,
        *,
        circle_id: str,
        version: int,
        agent_ids: Sequence[str],
        user_ids: Sequence[str],
    ) -> None:
        """Replace the members of a circle's scope; an older version than the known is no error."""
        members = memory_pb2.ScopeMembers(
            scope=memory_pb2.Scope(kind=memory_pb2.SCOPE_KIND_CIRCLE, id=circle_id),
            version=version,
            agent_ids=agent_ids,
            user_ids=user_ids,
        )
        request = memory_service_pb2.SetScopeMembersRequest(members=members)
        with peer(_PEER):
            await self._stub.SetScopeMembers(request, **self._channels.outgoing(call))
