"""Agents by what people call them."""

import typer

from gathering.agent.v1 import agent_pb2, agent_service_pb2
from gathering_client.connection import Gathering
from gathering_client.paging import all_pages


async def agents_called(
    mesh: Gathering, name: str, *, archived: bool = False
) -> list[agent_pb2.Agent]:
    """Return the agents of a name, newest first; case does not matter."""
    request = agent_service_pb2.ListAgentsRequest(include_archived=archived)
    pages = await all_pages(mesh.agents.ListAgents, request)
    agents = (agent for page in pages for agent in page.agents)
    return [agent for agent in agents if agent.name.casefold() == name.casefold()]


async def agent_names(mesh: Gathering) -> dict[str, str]:
    """Return the names of all agents by their ids."""
    request = agent_service_pb2.ListAgentsRequest(include_archived=True)
    pages = await all_pages(mesh.agents.ListAgents, request)
    return {agent.agent_id: agent.name for page in pages for agent in page.agents}


async def agent_id_of(mesh: Gathering, named: str, *, archived: bool = False) -> str:
    """Return the id of the one agent with this id or name."""
    if named.startswith("agt_"):
        return named
    found = await agents_called(mesh, named, archived=archived)
    if len(found) == 1:
        return found[0].agent_id
    if not found:
        hint = "" if archived else " (--all shows archived ones too)"
        raise typer.BadParameter(
            f"there is no agent called {named!r}; see `gathering agents list`{hint}"
        )
    ids = ", ".join(agent.agent_id for agent in found)
    raise typer.BadParameter(f"{len(found)} agents are called {named!r}; name one by id: {ids}")
