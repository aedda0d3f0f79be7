"""AgentService."""

from __future__ import annotations

from gathering.agent.v1 import agent_pb2, agent_service_pb2
from gathering_agent.agents.agents import Agents, Offer, etag_of
from gathering_agent.agents.models import Agent
from gathering_agent.convert import (
    agent_message,
    fields_of,
    template_message,
    version_message,
)
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint


class AgentServicer:
    """Serves `gathering.agent.v1.AgentService`."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def CreateAgent(
        self, request: agent_service_pb2.CreateAgentRequest, call: Call
    ) -> agent_pb2.Agent:
        """Create an agent."""
        return _message(await self._agents.create(call, fields_of(request.agent), request.template))

    async def GetAgent(
        self, request: agent_service_pb2.GetAgentRequest, call: Call
    ) -> agent_pb2.Agent:
        """Return an agent."""
        return _message(await self._agents.get(call, request.agent_id))

    async def ListAgents(
        self, request: agent_service_pb2.ListAgentsRequest, call: Call
    ) -> agent_service_pb2.ListAgentsResponse:
        """Return a page of agents."""
        size = page_size(request.page_size)
        query = query_fingerprint(call.method, call.tenant, request.include_archived)
        key = decode_token(query, request.page_token)
        found = await self._agents.page(
            call,
            archived=request.include_archived,
            before=str(key[0]) if key else "",
            limit=size + 1,
        )
        page = found[:size]
        return agent_service_pb2.ListAgentsResponse(
            agents=map(_message, page),
            next_page_token=encode_token(query, [page[-1].id]) if len(found) > size else "",
        )

    async def UpdateAgent(
        self, request: agent_service_pb2.UpdateAgentRequest, call: Call
    ) -> agent_pb2.Agent:
        """Change an agent."""
        fields, mask = fields_of(request.agent), list(request.update_mask.paths)
        return _message(
            await self._agents.update(call, request.agent_id, fields, mask, request.etag)
        )

    async def ArchiveAgent(
        self, request: agent_service_pb2.ArchiveAgentRequest, call: Call
    ) -> agent_pb2.Agent:
        """Archive an agent."""
        return _message(await self._agents.archive(call, request.agent_id))

    async def RestoreAgent(
        self, request: agent_service_pb2.RestoreAgentRequest, call: Call
    ) -> agent_pb2.Agent:
        """Bring an agent back."""
        return _message(await self._agents.restore(call, request.agent_id))

    async def ConsiderOffer(
        self, request: agent_service_pb2.ConsiderOfferRequest, call: Call
    ) -> agent_service_pb2.ConsiderOfferResponse:
        """Return what the agent says to an offer."""
        offer = Offer(
            task_id=request.task_id,
            title=request.title,
            required_competences=tuple(request.required_competences),
            open_task_ids=tuple(request.open_task_ids),
        )
        said = await self._agents.consider(call, request.agent_id, offer)
        return agent_service_pb2.ConsiderOfferResponse(
            accepted=said.accepted, reason=said.reason, message=said.message
        )

    async def GetAgentVersion(
        self, request: agent_service_pb2.GetAgentVersionRequest, call: Call
    ) -> agent_pb2.AgentVersion:
        """Return a version of an agent's definition."""
        return version_message(await self._agents.version(call, request.agent_id, request.version))

    async def ListAgentVersions(
        self, request: agent_service_pb2.ListAgentVersionsRequest, call: Call
    ) -> agent_service_pb2.ListAgentVersionsResponse:
        """Return a page of the versions of an agent's definition."""
        size = page_size(request.page_size)
        query = query_fingerprint(call.method, call.tenant, request.agent_id)
        key = decode_token(query, request.page_token, (int,))
        found = await self._agents.versions(
            call, request.agent_id, before=key[0] if key else 0, limit=size + 1
        )
        page = found[:size]
        return agent_service_pb2.ListAgentVersionsResponse(
            versions=map(version_message, page),
            next_page_token=encode_token(query, [page[-1].version]) if len(found) > size else "",
        )

    async def GetAgentTemplate(
        self, request: agent_service_pb2.GetAgentTemplateRequest, call: Call
    ) -> agent_pb2.AgentTemplate:
        """Return a template."""
        return template_message(self._agents.template(request.template))

    async def ListAgentTemplates(
        self, request: agent_service_pb2.ListAgentTemplatesRequest, call: Call
    ) -> agent_service_pb2.ListAgentTemplatesResponse:
        """Return the templates."""
        return agent_service_pb2.ListAgentTemplatesResponse(
            templates=map(template_message, self._agents.templates)
        )


def _message(agent: Agent) -> agent_pb2.Agent:
    return agent_message(agent, etag_of(agent))
