"""Versions of an agent's definition, templates, and what a definition changes in a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gathering.agent.v1 import agent_pb2, turn_pb2
from gathering.agent.v1 import agent_service_pb2 as pb
from gathering_mesh.errors import DomainError
from tests.integration.agent.harness import Caller, Scripted, Service, serving
from tests.integration.agent.peers import Peers
from tests.integration.agent.test_agent_agents import refusal, tail, update
from tests.support.postgres import TestDatabase


async def renamed(user: Caller, agent: agent_pb2.Agent, name: str, **fields: Any) -> Any:
    return await user.call("AgentService.UpdateAgent", update(agent, "name", name=name, **fields))


async def version(user: Caller, agent_id: str, number: int) -> agent_pb2.AgentVersion:
    request = pb.GetAgentVersionRequest(agent_id=agent_id, version=number)
    found: agent_pb2.AgentVersion = await user.call("AgentService.GetAgentVersion", request)
    return found


async def listed(user: Caller, agent_id: str, **fields: Any) -> pb.ListAgentVersionsResponse:
    request = pb.ListAgentVersionsRequest(agent_id=agent_id, **fields)
    page: pb.ListAgentVersionsResponse = await user.call("AgentService.ListAgentVersions", request)
    return page


async def test_each_update_makes_a_version_that_stays_as_it_was(service: Service) -> None:
    user = service.caller()
    colleague = service.caller(user.tenant)
    agent = await user.agent(persona=agent_pb2.Persona(role="critic"))
    assert agent.version == 1
    second = await renamed(colleague, agent, "Eve")
    await user.call("AgentService.ArchiveAgent", pb.ArchiveAgentRequest(agent_id=agent.agent_id))
    third = await user.call("AgentService.UpdateAgent", update(agent, "persona", "model"))
    assert (second.version, third.version) == (2, 3), "a state is no definition"
    first, was = await version(user, agent.agent_id, 1), await version(user, agent.agent_id, 2)
    assert (first.definition.name, first.definition.persona.role) == ("Ada", "critic")
    assert (first.user_id, list(first.changed_fields)) == (user.user, [])
    assert (was.definition.name, was.definition.persona.role) == ("Eve", "critic")
    assert (was.user_id, list(was.changed_fields)) == (colleague.user, ["name"])
    assert not was.definition.HasField("create_time")
    pages = await listed(user, agent.agent_id, page_size=2)
    rest = await listed(user, agent.agent_id, page_size=2, page_token=pages.next_page_token)
    assert [each.version for each in (*pages.versions, *rest.versions)] == [3, 2, 1]
    assert not pages.versions[0].HasField("definition")
    assert rest.next_page_token == ""
    for number in (4, 10**9):
        assert (await refusal(version(user, agent.agent_id, number))).status == "NOT_FOUND"
    assert (await refusal(version(user, agent.agent_id, 0))).status == "INVALID_ARGUMENT"
    for ask in (
        version(service.caller(), agent.agent_id, 1),
        listed(service.caller(), agent.agent_id),
    ):
        assert (await refusal(ask)).status == "NOT_FOUND"


async def test_no_role_of_the_service_changes_a_version(service: Service) -> None:
    user = service.caller()
    agent = await user.agent()
    connection = await asyncpg.connect(service.database.app("agent"))
    try:
        await connection.execute("select set_config('app.tenant', $1, false)", user.tenant)
        for change in (
            "update agent.agent_versions set version = 9",
            "delete from agent.agent_versions",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    finally:
        await connection.close()
    assert (await version(user, agent.agent_id, 1)).version == 1


@asynccontextmanager
async def two_replicas(
    database: TestDatabase, peers: Peers, folder: Path, model: Scripted | None, **more: Any
) -> AsyncIterator[list[Caller]]:
    """One user at two replicas."""
    async with AsyncExitStack() as stack:
        callers: list[Caller] = []
        for number in range(2):
            place = folder / str(number)
            place.mkdir()
            running = await stack.enter_async_context(
                serving(database, peers, place, model, **more)
            )
            made = running.caller(callers[0].tenant if callers else "")
            callers.append(Caller(running, made.tenant, callers[0].user if callers else made.user))
        yield callers


async def test_updates_at_two_replicas_at_once_make_one_version_each(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> None:
    async with two_replicas(database, peers, tmp_path, model) as users:
        agent = await users[0].agent()
        changed = await asyncio.gather(
            *(renamed(users[n % 2], agent, f"name {n}") for n in range(8))
        )
        assert sorted(each.version for each in changed) == list(range(2, 10))
        for each in changed:
            assert (await version(users[0], agent.agent_id, each.version)).definition.name == (
                each.name
            )
        request = update(agent, "name", name="once")
        request.request_id = "r"  # type: ignore[attr-defined]
        twice = await asyncio.gather(
            *(user.call("AgentService.UpdateAgent", request) for user in users),
            return_exceptions=True,
        )
        told = [each for each in twice if not isinstance(each, BaseException)]
        refused = [each for each in twice if isinstance(each, DomainError)]
        assert {each.reason for each in refused} <= {"REQUEST_IN_PROGRESS"}
        assert {each.version for each in told} == {10}
        assert (await listed(users[1], agent.agent_id)).versions[0].version == 10
        etag = (await renamed(users[0], agent, "last")).etag
        stale = await asyncio.gather(
            *(
                user.call("AgentService.UpdateAgent", update(agent, "name", etag=etag, name="x"))
                for user in users
            ),
            return_exceptions=True,
        )
        assert [type(each) for each in stale].count(agent_pb2.Agent) == 1


async def test_turn_runs_by_the_version_with_which_it_began(
    database: TestDatabase, peers: Peers, tmp_path: Path
) -> None:
    """Also on the replica that takes it over."""
    first, second = Scripted(), Scripted()
    first.gate.clear()
    (tmp_path / "a").mkdir()
    async with serving(database, peers, tmp_path / "a", first) as service:
        user = service.caller()
        agent = await user.agent(persona=agent_pb2.Persona(base_prompt="You are old."))
        session = await user.session(agent.agent_id)
        turn = await user.start(session.session_id)
        await first.begun.wait()
        changed = await user.call(
            "AgentService.UpdateAgent",
            update(agent, "persona", persona=agent_pb2.Persona(base_prompt="You are new.")),
        )
        assert (turn.agent_version, changed.version) == (1, 2)
    (tmp_path / "b").mkdir()
    async with serving(database, peers, tmp_path / "b", second) as service:
        again = Caller(service, user.tenant, user.user)
        ended = await again.ended(turn.turn_id)
        assert (ended.state, ended.agent_version) == (turn_pb2.TURN_STATE_COMPLETED, 1)
        assert "You are old." in second.requests[-1].system
        following = await again.chat(session.session_id)
        assert following.agent_version == 2
        assert "You are new." in second.requests[-1].system


async def template(user: Caller, name: str) -> agent_pb2.AgentTemplate:
    found: agent_pb2.AgentTemplate = await user.call(
        "AgentService.GetAgentTemplate", pb.GetAgentTemplateRequest(template=name)
    )
    return found


async def test_agent_is_made_from_a_template_with_fields_of_its_own(service: Service) -> None:
    user = service.caller()
    known = await user.call("AgentService.ListAgentTemplates", pb.ListAgentTemplatesRequest())
    names = [each.template for each in known.templates]
    assert names == sorted(names)
    assert {"architect", "developer", "reviewer", "researcher", "tester", "writer"} <= set(names)
    reviewer = await template(user, "reviewer")
    plain = await user.call(
        "AgentService.CreateAgent",
        pb.CreateAgentRequest(agent=agent_pb2.Agent(), template="reviewer"),
    )
    assert plain.template == "reviewer"
    assert plain.persona == reviewer.definition.persona
    assert plain.competences == reviewer.definition.competences
    own = agent_pb2.Agent(
        name="Zoe",
        persona=agent_pb2.Persona(traits=["swift"]),
        competences=[agent_pb2.Competence(name="go", strength=0.5)],
        memory_policy=agent_pb2.MemoryPolicy(recall_limit=0),
    )
    made = await user.call(
        "AgentService.CreateAgent", pb.CreateAgentRequest(agent=own, template="reviewer")
    )
    assert (made.name, list(made.persona.traits)) == ("Zoe", ["swift"])
    assert made.persona.base_prompt == reviewer.definition.persona.base_prompt
    assert [each.name for each in made.competences] == ["go"]
    assert made.memory_policy.HasField("recall_limit")
    missing = pb.CreateAgentRequest(agent=own, template="nobody")
    assert (await refusal(user.call("AgentService.CreateAgent", missing))).status == "NOT_FOUND"
    assert (await refusal(template(user, "nobody"))).status == "NOT_FOUND"
    nameless = pb.CreateAgentRequest(agent=agent_pb2.Agent())
    assert (await refusal(user.call("AgentService.CreateAgent", nameless))).fields


async def test_definition_shapes_the_turn(service: Service, model: Scripted) -> None:
    user = service.caller()
    calls = [("memory_remember", {"text": "a secret"}), ("memory_recall", {"query": "x"})]
    model.reply = lambda asked: (
        ("done", []) if asked.messages[-1].tool_results else ("let me", list(calls))
    )
    agent = await user.agent(
        persona=agent_pb2.Persona(specialisations=["old maps"], preferences=["short answers"]),
        memory_policy=agent_pb2.MemoryPolicy(recall_limit=0, read_only=True),
        max_turn_tool_calls=1,
    )
    service.peers.memory.known.append((user.tenant, "a fact"))
    session = await user.session(agent.agent_id)
    turn = await user.chat(session.session_id)
    asked = model.requests[0]
    assert "old maps" in asked.system
    assert "short answers" in asked.system
    assert [tool.name for tool in asked.tools] == ["memory_recall"]
    results = (await user.messages(session.session_id))[2].tool_results
    assert results[0].failed
    assert "no tool 'memory_remember'" in results[0].text
    assert "the bound of 1 tool calls" in results[1].text
    assert turn.usage.tool_call_count == 1
    assert not service.peers.memory.remembered
    assert "a fact" not in asked.system


async def test_events_name_template_and_version(service: Service) -> None:
    user = service.caller()
    agent = await user.call(
        "AgentService.CreateAgent",
        pb.CreateAgentRequest(agent=agent_pb2.Agent(), template="tester"),
    )
    await renamed(user, agent, "Eve")
    session = await user.session(agent.agent_id)
    await user.chat(session.session_id)
    await user.chat(session.session_id)
    created, updated = (await tail(service, 10))[:2]
    assert created.agent_created.template == "tester"
    assert (updated.agent_updated.version, list(updated.agent_updated.changed_fields)) == (
        2,
        ["name"],
    )
