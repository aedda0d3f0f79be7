"""Which agent and which session to talk to: by id, by name, by template, or the last one."""

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    session_pb2,
    session_service_pb2,
)
from gathering_client.connection import Gathering
from gathering_client.naming import agent_id_of, agents_called
from gathering_client.paging import all_pages

DEFAULT_AGENT = "Assistant"


async def find_agent(mesh: Gathering, name: str, template: str) -> agent_pb2.Agent:
    """Return an agent by id or name, or one of a template; some are made if there is none."""
    if template:
        return await _of_template(mesh, name, template)
    if not name or name.casefold() == DEFAULT_AGENT.casefold():
        return await _default_agent(mesh)
    agent_id = await agent_id_of(mesh, name)
    return await mesh.agents.GetAgent(agent_service_pb2.GetAgentRequest(agent_id=agent_id))


async def _default_agent(mesh: Gathering) -> agent_pb2.Agent:
    found = await agents_called(mesh, DEFAULT_AGENT)
    if found:
        return found[0]
    persona = agent_pb2.Persona(role="assistant", base_prompt="You help with whatever is asked.")
    agent = agent_pb2.Agent(name=DEFAULT_AGENT, persona=persona)
    return await mesh.agents.CreateAgent(agent_service_pb2.CreateAgentRequest(agent=agent))


async def _of_template(mesh: Gathering, name: str, template: str) -> agent_pb2.Agent:
    """Return the newest agent of a template (and name, if one is given), made if there is none."""
    pages = await all_pages(mesh.agents.ListAgents, agent_service_pb2.ListAgentsRequest())
    for agent in (agent for page in pages for agent in page.agents):
        if agent.template == template and name.casefold() in {"", agent.name.casefold()}:
            return agent
    return await mesh.agents.CreateAgent(
        agent_service_pb2.CreateAgentRequest(agent=agent_pb2.Agent(name=name), template=template)
    )


async def latest_sessions(
    mesh: Gathering, *, agent_id: str = "", query: str = ""
) -> list[session_pb2.Session]:
    """Return sessions, the one in which was spoken last first."""
    request = session_service_pb2.ListSessionsRequest(agent_id=agent_id, query=query)
    pages = await all_pages(mesh.sessions.ListSessions, request)
    found = [session for page in pages for session in page.sessions]
    return sorted(found, key=_last, reverse=True)


def _last(session: session_pb2.Session) -> tuple[int, int]:
    spoken = session.HasField("last_message_time")
    time = session.last_message_time if spoken else session.create_time
    return time.seconds, time.nanos


async def open_session(  # noqa: PLR0917 - what the command line says
    mesh: Gathering, session_id: str, agent: str, template: str, workspace: str, resume: bool
) -> session_pb2.Session:
    """Return the session that was named, the last one, or a new one."""
    if session_id:
        return await mesh.sessions.GetSession(
            session_service_pb2.GetSessionRequest(session_id=session_id)
        )
    named = agent or template
    found = await find_agent(mesh, agent, template) if named or not resume else None
    if resume:
        sessions = await latest_sessions(mesh, agent_id=found.agent_id if found else "")
        if sessions:
            return sessions[0]
        found = found or await find_agent(mesh, agent, template)
    assert found is not None  # noqa: S101 - one of both is known here
    request = session_service_pb2.CreateSessionRequest(
        agent_id=found.agent_id, workspace_id=workspace
    )
    return await mesh.sessions.CreateSession(request)
