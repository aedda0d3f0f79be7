"""CircleService: convert, call a verb, convert."""

from __future__ import annotations

from gathering.orchestrator.v1 import circle_pb2, circle_service_pb2
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint
from gathering_orchestrator.circles.circles import Circles
from gathering_orchestrator.circles.convert import (
    circle_fields,
    circle_to_proto,
    member_fields,
    member_to_proto,
)
from gathering_orchestrator.circles.members import Members


class CircleServicer:
    """Serves `gathering.orchestrator.v1.CircleService`; the contract says what each RPC does."""

    def __init__(self, circles: Circles, members: Members) -> None:
        self._circles = circles
        self._members = members

    async def CreateCircle(
        self, request: circle_service_pb2.CreateCircleRequest, call: Call
    ) -> circle_pb2.Circle:
        """Create a circle with its first members."""
        members = [member_fields(member) for member in request.members]
        circle = await self._circles.create(call, circle_fields(request.circle), members)
        return circle_to_proto(circle)

    async def GetCircle(
        self, request: circle_service_pb2.GetCircleRequest, call: Call
    ) -> circle_pb2.Circle:
        """Read a circle."""
        return circle_to_proto(await self._circles.get(call, request.circle_id))

    async def ListCircles(
        self, request: circle_service_pb2.ListCirclesRequest, call: Call
    ) -> circle_service_pb2.ListCirclesResponse:
        """List circles, newest first."""
        mark = query_fingerprint("ListCircles", call.tenant)
        (before, *_) = decode_token(mark, request.page_token) or ("",)
        size = page_size(request.page_size)
        found = await self._circles.page(call, str(before), size + 1)
        page = found[:size]
        return circle_service_pb2.ListCirclesResponse(
            circles=map(circle_to_proto, page),
            next_page_token=encode_token(mark, (page[-1].circle_id,)) if found[size:] else "",
        )

    async def UpdateCircle(
        self, request: circle_service_pb2.UpdateCircleRequest, call: Call
    ) -> circle_pb2.Circle:
        """Change the fields that the mask names."""
        circle = await self._circles.update(
            call,
            request.circle_id,
            circle_fields(request.circle),
            request.update_mask.paths,
            request.etag,
        )
        return circle_to_proto(circle)

    async def AddMember(
        self, request: circle_service_pb2.AddMemberRequest, call: Call
    ) -> circle_pb2.Member:
        """Add an agent, or replace its fields."""
        member = await self._members.add(call, request.circle_id, member_fields(request.member))
        return member_to_proto(member)

    async def RemoveMember(
        self, request: circle_service_pb2.RemoveMemberRequest, call: Call
    ) -> circle_service_pb2.RemoveMemberResponse:
        """Remove an agent."""
        await self._members.remove(call, request.circle_id, request.agent_id)
        return circle_service_pb2.RemoveMemberResponse()

    async def ListMembers(
        self, request: circle_service_pb2.ListMembersRequest, call: Call
    ) -> circle_service_pb2.ListMembersResponse:
        """List the members by name."""
        members = await self._members.listed(call, request.circle_id)
        return circle_service_pb2.ListMembersResponse(members=map(member_to_proto, members))
