"""Agents, sessions, models through the port: updates, offers, lists, tenants, events."""

from __future__ import annotations

import asyncpg
import pytest
from google.protobuf import field_mask_pb2

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    model_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from gathering.events.v1 import event_log_service_pb2, event_log_service_pb2_grpc, event_pb2
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from tests.integration.agent.harness import Caller, Service
from tests.support.probe import headers


async def refusal(call: object) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await call  # type: ignore[misc]
    return caught.value


def update(agent: agent_pb2.Agent, *paths: str, etag: str = "", **fields: object) -> object:
    return agent_service_pb2.UpdateAgentRequest(
        agent_id=agent.agent_id,
        agent=agent_pb2.Agent(**fields),  # type: ignore[arg-type]
        update_mask=field_mask_pb2.FieldMask(paths=paths),
        etag=etag,
    )


async def test_agent_is_kept_as_it_was_given(service: Service) -> None:
    user = service.caller()
    made = await user.agent(
        persona=agent_pb2.Persona(
            role="critic",
            base_prompt="You read.",
            traits=["careful"],
            communication_style=agent_pb2.COMMUNICATION_STYLE_CONCISE,
            languages=["en", "de-DE"],
        ),
        competences=[
            agent_pb2.Competence(name="python"),
            agent_pb2.Competence(name="sql", strength=0.0),
        ],
    )
    assert [c.strength for c in made.competences] == [0.8, 0.0]
    request = agent_service_pb2.GetAgentRequest(agent_id=made.agent_id)
    assert await user.call("AgentService.GetAgent", request) == made
    system = await system_prompt(user, made)
    for said in ("Ada, critic", "You read.", "careful", "python", "Be brief", "de-DE"):
        assert said in system


async def system_prompt(user: Caller, agent: agent_pb2.Agent) -> str:
    session = await user.session(agent.agent_id)
    await user.chat(session.session_id)
    assert user.service.model is not None
    return user.service.model.requests[-1].system


async def test_update_changes_what_the_mask_names_and_minds_the_etag(service: Service) -> None:
    user = service.caller()
    agent = await user.agent(model="offline")
    changed = await user.call(
        "AgentService.UpdateAgent",
        update(agent, "name", "max_turn_steps", etag=agent.etag, name="Eve", max_turn_steps=3),
    )
    assert (changed.name, changed.max_turn_steps, changed.model) == ("Eve", 3, "offline")
    assert changed.etag != agent.etag
    stale = await refusal(
        user.call("AgentService.UpdateAgent", update(agent, "name", etag=agent.etag, name="X"))
    )
    assert (stale.status, stale.reason) == ("ABORTED", "ETAG_STALE")
    for paths in (("state",), ("name", "nonsense"), ("owner_user_id",), ("persona.role",)):
        wrong = await refusal(user.call("AgentService.UpdateAgent", update(agent, *paths)))
        assert (wrong.status, wrong.reason) == ("INVALID_ARGUMENT", "INVALID_UPDATE_MASK")
    unknown = await refusal(
        user.call("AgentService.UpdateAgent", update(agent, "model", model="nobody/nothing"))
    )
    assert unknown.reason == "MODEL_NOT_CONFIGURED"
    assert (await refusal(user.agent(model="nobody/nothing"))).reason == "MODEL_NOT_CONFIGURED"
    twice = [agent_pb2.Competence(name="a"), agent_pb2.Competence(name="a", strength=0.1)]
    assert "agent.competences" in (await refusal(user.agent(competences=twice))).fields


async def test_archived_agent_takes_no_turns_until_it_is_restored(service: Service) -> None:
    user = service.caller()
    agent = await user.agent()
    session = await user.session(agent.agent_id)
    archive = agent_service_pb2.ArchiveAgentRequest(agent_id=agent.agent_id, request_id="a")
    first = await user.call("AgentService.ArchiveAgent", archive)
    assert first.state == agent_pb2.AGENT_STATE_ARCHIVED
    assert await user.call("AgentService.ArchiveAgent", archive) == first
    for refused in (user.start(session.session_id), user.session(agent.agent_id)):
        assert (await refusal(refused)).reason == "WRONG_STATE"
    assert (await user.call("AgentService.ListAgents", listing())).agents == []
    every = listing(include_archived=True)
    assert len((await user.call("AgentService.ListAgents", every)).agents) == 1
    restore = agent_service_pb2.RestoreAgentRequest(agent_id=agent.agent_id)
    assert (await user.call("AgentService.RestoreAgent", restore)).state == (
        agent_pb2.AGENT_STATE_ACTIVE
    )
    assert (await user.chat(session.session_id)).text


def listing(**fields: object) -> agent_service_pb2.ListAgentsRequest:
    return agent_service_pb2.ListAgentsRequest(**fields)  # type: ignore[arg-type]


async def test_lists_are_paged_newest_first(service: Service) -> None:
    user = service.caller()
    made = [(await user.agent(name=f"a{n}")).agent_id for n in range(5)]
    seen, token = [], ""
    while True:
        page = await user.call("AgentService.ListAgents", listing(page_size=2, page_token=token))
        seen += [agent.agent_id for agent in page.agents]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    other = listing(include_archived=True, page_token=seen and await first_token(user))
    assert (await refusal(user.call("AgentService.ListAgents", other))).reason == (
        "INVALID_PAGE_TOKEN"
    )


async def first_token(user: Caller) -> str:
    token: str = (await user.call("AgentService.ListAgents", listing(page_size=1))).next_page_token
    return token


async def test_agent_considers_offers_by_itself(service: Service) -> None:
    user = service.caller()
    agent = await user.agent(competences=[agent_pb2.Competence(name="python")])
    asked = user.through("orchestrator")

    async def consider(*competences: str, busy: int = 0) -> agent_service_pb2.ConsiderOfferResponse:
        request = agent_service_pb2.ConsiderOfferRequest(
            agent_id=agent.agent_id,
            task_id=new_id("tsk"),
            required_competences=competences,
            open_task_ids=[new_id("tsk") for _ in range(busy)],
        )
        answer: agent_service_pb2.ConsiderOfferResponse = await asked.call(
            "AgentService.ConsiderOffer", request
        )
        return answer

    assert (await consider("python", "sql")).accepted
    assert (await consider()).accepted
    assert (await consider("cobol")).reason == "competence"
    full = await consider("python", busy=1)
    assert (full.accepted, full.reason) == (False, "at_capacity")
    assert "tsk_" in full.message
    archive = agent_service_pb2.ArchiveAgentRequest(agent_id=agent.agent_id)
    await user.call("AgentService.ArchiveAgent", archive)
    assert (await consider("python")).reason == "archived"
    direct = agent_service_pb2.ConsiderOfferRequest(agent_id=agent.agent_id, task_id=new_id("tsk"))
    assert (await refusal(user.call("AgentService.ConsiderOffer", direct))).reason == (
        "ACTOR_REFUSED"
    )


async def test_nothing_is_seen_across_tenants_or_users(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id, "secret")
    colleague = service.caller(user.tenant)
    stranger = service.caller()
    for other in (stranger, colleague):
        for rpc, request in (
            ("SessionService.GetSession", get_session(session.session_id)),
            ("SessionService.ListMessages", messages(session.session_id)),
            ("TurnService.GetTurn", turn_service_pb2.GetTurnRequest(turn_id=turn.turn_id)),
            ("TurnService.CancelTurn", turn_service_pb2.CancelTurnRequest(turn_id=turn.turn_id)),
            ("TurnService.StartTurn", start(session.session_id)),
            ("TurnService.Chat", chat(session.session_id)),
        ):
            assert (await refusal(other.call(rpc, request))).status == "NOT_FOUND", rpc
        with pytest.raises(DomainError):
            [frame async for frame in other.watch(turn.turn_id)]
        turns = turn_service_pb2.ListTurnsRequest()
        assert not (await other.call("TurnService.ListTurns", turns)).turns
        by_session = turn_service_pb2.ListTurnsRequest(session_id=session.session_id)
        assert not (await other.call("TurnService.ListTurns", by_session)).turns
        sessions = session_service_pb2.ListSessionsRequest()
        assert not (await other.call("SessionService.ListSessions", sessions)).sessions
    agent = agent_service_pb2.GetAgentRequest(agent_id=session.agent_id)
    assert (await refusal(stranger.call("AgentService.GetAgent", agent))).status == "NOT_FOUND"
    foreign = await refusal(stranger.session(session.agent_id))
    assert foreign.status == "NOT_FOUND"
    admin = service.caller(user.tenant, role="admin")
    assert (await admin.turn(turn.turn_id)).text == turn.text
    assert (await refusal(admin.start(session.session_id))).reason == "NOT_ALLOWED"


def get_session(session_id: str) -> session_service_pb2.GetSessionRequest:
    return session_service_pb2.GetSessionRequest(session_id=session_id)


def messages(session_id: str) -> session_service_pb2.ListMessagesRequest:
    return session_service_pb2.ListMessagesRequest(session_id=session_id)


def start(session_id: str) -> turn_service_pb2.StartTurnRequest:
    return turn_service_pb2.StartTurnRequest(session_id=session_id, text="x")


def chat(session_id: str) -> turn_service_pb2.ChatRequest:
    return turn_service_pb2.ChatRequest(session_id=session_id, text="x")


async def test_rows_of_another_tenant_are_not_even_in_unfiltered_queries(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    await user.chat(session.session_id)
    connection = await asyncpg.connect(service.database.app("agent"))
    try:
        async with connection.transaction():
            await connection.execute("select set_config('app.tenant', $1, true)", new_id("ten"))
            for table in ("agents", "sessions", "turns", "messages"):
                assert await connection.fetchval(f"select count(*) from agent.{table}") == 0  # noqa: S608
    finally:
        await connection.close()


async def test_session_is_created_once_with_one_delegation(service: Service) -> None:
    user = service.caller()
    agent = await user.agent()
    twice = [await user.session(agent.agent_id, request_id="s") for _ in range(2)]
    assert twice[0].session_id == twice[1].session_id
    assert len(service.peers.auth.delegations) == 1
    missing = await refusal(user.session(new_id("agt")))
    assert missing.status == "NOT_FOUND"


async def test_models_are_listed(service: Service) -> None:
    user = service.caller()
    answer = await user.call("ModelService.ListModels", model_service_pb2.ListModelsRequest())
    assert answer.default_model == "offline"
    known = {model.name: model.available for model in answer.models}
    assert known["offline"]
    assert not known["anthropic/claude-sonnet-5-5"]
    assert list(known) == sorted(known)


async def test_events_tell_what_happened_to_those_who_may_know(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    await user.chat(session.session_id)
    task_id = new_id("tsk")
    turn = await user.through("orchestrator").start(session.session_id, task_id=task_id)
    await user.ended(turn.turn_id)
    events = await tail(service, 10)
    types = [event.type for event in events]
    assert types == [
        "agent_created",
        "session_created",
        *("turn_started", "turn_step_completed", "turn_completed") * 2,
    ]
    chat_events, task_events = events[2:5], events[5:8]
    assert all(list(event.audience.user_ids) == [user.user] for event in chat_events)
    assert all(not event.audience.user_ids for event in task_events)
    assert all(task_id in event.subject_ids for event in task_events)
    assert task_events[-1].turn_completed.stop_reason == "end"
    assert all(event.cause.user_id == user.user for event in events)
    assert len({event.trace_id for event in task_events}) == 1


async def tail(service: Service, seconds: int) -> list[event_pb2.Event]:
    """Return the whole log of the service."""
    stub = event_log_service_pb2_grpc.EventLogServiceStub(service.channel)
    request = event_log_service_pb2.TailRequest(after=event_log_service_pb2.LogPosition(position=0))
    tokens = headers(None, service.peers.issuer.actor("gateway"))
    found = []
    async for answer in stub.Tail(request, metadata=tokens, timeout=seconds):
        if answer.HasField("entry"):
            found.append(answer.entry.event)
        if found and found[-1].type == "turn_completed" and len(found) >= 8:
            break
    return found
