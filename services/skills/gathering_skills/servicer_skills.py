"""SkillService."""

from __future__ import annotations

from gathering.skills.v1 import skill_pb2
from gathering.skills.v1 import skill_service_pb2 as pb
from gathering_mesh.call import Call
from gathering_skills.convert import grant_message, skill_message, tool_message, wish_of
from gathering_skills.grants import Grants


class SkillServicer:
    """Serves `gathering.skills.v1.SkillService`."""

    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    async def ListSkills(self, request: pb.ListSkillsRequest, call: Call) -> pb.ListSkillsResponse:
        """Return all skills."""
        return pb.ListSkillsResponse(skills=map(skill_message, self._grants.skills()))

    async def ListGrantedTools(
        self, request: pb.ListGrantedToolsRequest, call: Call
    ) -> pb.ListGrantedToolsResponse:
        """Return the tools of an agent."""
        tools = await self._grants.granted_tools(call, request.agent_id)
        return pb.ListGrantedToolsResponse(
            tools=[tool_message(skill, tool) for skill, tool in tools]
        )

    async def CreateGrant(self, request: pb.CreateGrantRequest, call: Call) -> skill_pb2.Grant:
        """Grant a skill."""
        return grant_message(await self._grants.create(call, wish_of(request)))

    async def ListGrants(self, request: pb.ListGrantsRequest, call: Call) -> pb.ListGrantsResponse:
        """Return a page of grants."""
        page = await self._grants.page(
            call, request.agent_id, request.page_size, request.page_token
        )
        return pb.ListGrantsResponse(
            grants=map(grant_message, page.grants), next_page_token=page.next_page_token
        )

    async def RevokeGrant(self, request: pb.RevokeGrantRequest, call: Call) -> skill_pb2.Grant:
        """Take a grant away."""
        return grant_message(await self._grants.revoke(call, request.grant_id))
