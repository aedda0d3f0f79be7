"""What the client adds to a call: a token, a name for the call, a second try, readable errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from gathering.agent.v1.agent_pb2 import Agent
from gathering.agent.v1.agent_service_pb2 import (
    CreateAgentRequest,
    GetAgentRequest,
    ListAgentsRequest,
    ListAgentsResponse,
)
from gathering.gateway.v1.auth_service_pb2 import GetMeRequest
from gathering_client import Gathering, GatheringError, Login
from gathering_client.paging import all_pages
from tests.unit.client.edge import LOGIN, REFRESH, Edge, Refused, connected

CREATE = "gathering.agent.v1.AgentService.CreateAgent"
GET = "gathering.agent.v1.AgentService.GetAgent"
LIST = "gathering.agent.v1.AgentService.ListAgents"


async def agent(request: Any) -> Message:
    """Answer with an agent."""
    return Agent(agent_id="agt_1", name="Ada")


async def test_calls_at_once_log_in_once_and_carry_the_token() -> None:
    edge = Edge({GET: agent})
    async with connected(edge) as mesh:
        await asyncio.gather(*(mesh.agents.GetAgent(GetAgentRequest()) for _ in range(5)))
        assert mesh.refresh_token == "r1"
    assert edge.logins == 1
    assert {call.token for call in edge.calls("GetAgent")} == {"Bearer t1"}
    assert edge.calls("Login")[0].token == ""


async def test_token_near_its_end_is_renewed_by_the_refresh_token() -> None:
    edge = Edge({GET: agent}, token_seconds=30)
    async with connected(edge) as mesh:
        for _ in range(2):
            await mesh.agents.GetAgent(GetAgentRequest())
    assert len(edge.calls("Login")) == 1
    assert [call.request.refresh_token for call in edge.calls("Refresh")] == ["r1"]


async def test_refused_refresh_token_leads_to_a_new_login() -> None:
    async def refuse(request: Any) -> Message:
        raise Refused(StatusCode.UNAUTHENTICATED, "CREDENTIALS_REVOKED")

    edge = Edge({GET: agent, REFRESH: refuse}, token_seconds=30)
    async with connected(edge) as mesh:
        for _ in range(2):
            await mesh.agents.GetAgent(GetAgentRequest())
    assert len(edge.calls("Login")) == 2


async def test_call_whose_token_is_refused_is_made_again_with_another() -> None:
    async def get(request: Any) -> Message:
        if edge.seen[-1].token == "Bearer t1":
            raise Refused(StatusCode.UNAUTHENTICATED)
        return Agent(agent_id="agt_1")

    edge = Edge({GET: get})
    async with connected(edge) as mesh:
        assert (await mesh.agents.GetAgent(GetAgentRequest())).agent_id == "agt_1"
    assert len(edge.calls("GetAgent")) == 2


async def test_wrong_password_is_tried_once() -> None:
    async def refuse(request: Any) -> Message:
        raise Refused(StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID", "wrong")

    edge = Edge({GET: agent, LOGIN: refuse})
    async with connected(edge) as mesh:
        with pytest.raises(GatheringError, match="wrong") as caught:
            await mesh.agents.GetAgent(GetAgentRequest())
    assert caught.value.reason == "CREDENTIALS_INVALID"
    assert len(edge.calls("Login")) == 1
    assert edge.calls("GetAgent") == []


async def test_repeat_after_unavailable_has_the_name_of_the_first_call() -> None:
    async def create(request: Any) -> Message:
        if len(edge.calls("CreateAgent")) == 1:
            raise Refused
        return Agent(agent_id="agt_1")

    edge = Edge({CREATE: create})
    request = CreateAgentRequest(agent=Agent(name="Ada"))
    async with connected(edge) as mesh:
        await mesh.agents.CreateAgent(request)
        await mesh.agents.CreateAgent(request)
    names = [call.request.request_id for call in edge.calls("CreateAgent")]
    assert all(names)
    assert names[0] == names[1] != names[2]
    assert request.request_id == ""


async def test_name_that_the_caller_gave_stays() -> None:
    edge = Edge({CREATE: agent})
    async with connected(edge) as mesh:
        await mesh.agents.CreateAgent(CreateAgentRequest(request_id="mine"))
    assert edge.calls("CreateAgent")[0].request.request_id == "mine"


async def test_error_tells_reason_and_fields() -> None:
    async def create(request: Any) -> Message:
        fields = {"agent.name": "at most 100 characters"}
        raise Refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "a field is bad", fields)

    async with connected(Edge({CREATE: create})) as mesh:
        with pytest.raises(GatheringError) as caught:
            await mesh.agents.CreateAgent(CreateAgentRequest())
    error = caught.value
    assert (error.status, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert error.fields == {"agent.name": "at most 100 characters"}
    assert str(error) == ("a field is bad [INVALID_FIELD]\n  agent.name: at most 100 characters")


async def test_error_without_details_is_readable_too() -> None:
    async with connected(Edge({})) as mesh:
        with pytest.raises(GatheringError) as caught:
            await mesh.auth.GetMe(GetMeRequest())
    assert caught.value.status == "UNIMPLEMENTED"
    assert caught.value.reason == ""


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", ""])
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        Gathering(url, Login("me@example.org", "secret"))


async def test_all_pages_follows_the_tokens_to_the_last_page() -> None:
    pages = {"": ("a", "p2"), "p2": ("b", "p3"), "p3": ("c", "")}

    async def page(request: Any) -> Message:
        name, following = pages[request.page_token]
        return ListAgentsResponse(agents=[Agent(name=name)], next_page_token=following)

    edge = Edge({LIST: page})
    async with connected(edge) as mesh:
        found = await all_pages(mesh.agents.ListAgents, ListAgentsRequest(page_token="stale"))
    assert [agent.name for page in found for agent in page.agents] == ["a", "b", "c"]
    assert {call.request.page_size for call in edge.calls("ListAgents")} == {200}
