"""Sessions: named anew, searched, forked, deleted for good."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
from google.protobuf import field_mask_pb2

from gathering.agent.v1 import agent_service_pb2 as agents
from gathering.agent.v1 import session_pb2, turn_pb2, turn_service_pb2
from gathering.agent.v1 import session_service_pb2 as pb
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from tests.integration.agent.harness import Caller, Scripted, Service
from tests.integration.agent.peers import Peers
from tests.integration.agent.test_agent_agents import get_session, refusal, start
from tests.integration.agent.test_agent_versions import two_replicas
from tests.support.postgres import TestDatabase

USER, ASSISTANT, TOOL = (
    session_pb2.MESSAGE_ROLE_USER,
    session_pb2.MESSAGE_ROLE_ASSISTANT,
    session_pb2.MESSAGE_ROLE_TOOL,
)
LIVE = (turn_pb2.TURN_STATE_QUEUED, turn_pb2.TURN_STATE_RUNNING)


async def ask(user: Caller, name: str, **fields: Any) -> Any:
    """Call an RPC of SessionService."""
    return await user.call(f"SessionService.{name}", getattr(pb, f"{name}Request")(**fields))


async def titled(user: Caller, session_id: str, title: str, **fields: Any) -> Any:
    mask = field_mask_pb2.FieldMask(paths=fields.pop("paths", ["title"]))
    session = session_pb2.Session(title=title)
    return await ask(
        user, "UpdateSession", session_id=session_id, session=session, update_mask=mask, **fields
    )


def with_tools(model: Scripted) -> None:
    """Have the model call a tool and then answer."""
    model.reply = lambda asked: (
        ("It is done.", [])
        if asked.messages[-1].tool_results
        else ("Let me see.", [("memory_recall", {"query": "boats"})])
    )


async def test_title_changes_under_an_etag_and_for_the_owner_alone(service: Service) -> None:
    user = service.caller()
    session = await user.session(title="old")
    changed = await titled(user, session.session_id, "new", etag=session.etag)
    assert (changed.title, changed.etag != session.etag) == ("new", True)
    stale = await refusal(titled(user, session.session_id, "newer", etag=session.etag))
    assert stale.reason == "ETAG_STALE"
    await user.chat(session.session_id)
    assert (await user.call("SessionService.GetSession", get_session(session.session_id))).etag == (
        changed.etag
    )
    wrong = await refusal(titled(user, session.session_id, "x", paths=["agent_id"]))
    assert wrong.reason == "INVALID_UPDATE_MASK"
    admin = service.caller(user.tenant, role="admin")
    assert (await refusal(titled(admin, session.session_id, "x"))).reason == "NOT_ALLOWED"
    for other in (service.caller(), service.caller(user.tenant)):
        assert (await refusal(titled(other, session.session_id, "x"))).status == "NOT_FOUND"


async def test_sessions_are_found_by_what_was_said_and_where(service: Service) -> None:
    user = service.caller()
    agent = await user.agent()
    named = await user.session(agent.agent_id, title="About HARBOURS")
    said = await user.session(agent.agent_id, workspace_id=new_id("wsp"))
    await user.chat(said.session_id, "tell me of a harbour, 100% of it")
    await user.session(agent.agent_id, title="nothing")

    async def found(caller: Caller = user, **fields: Any) -> list[str]:
        ids, token = [], ""
        while True:
            page = await ask(caller, "ListSessions", page_size=1, page_token=token, **fields)
            ids += [each.session_id for each in page.sessions]
            token = page.next_page_token
            if not token:
                return ids

    assert await found(query="harbour") == [said.session_id, named.session_id]
    assert await found(query="100%") == [said.session_id]
    assert await found(query="_") == []
    assert await found(query="harbour", workspace_id=said.workspace_id) == [said.session_id]
    assert len(await found()) == 3
    for other in (service.caller(), service.caller(user.tenant, role="admin")):
        assert await found(other, query="harbour") == []
    page = await ask(user, "ListSessions", page_size=1, query="harbour")
    foreign = await refusal(
        ask(user, "ListSessions", query="boat", page_token=page.next_page_token)
    )
    assert foreign.reason == "INVALID_PAGE_TOKEN"


async def test_fork_goes_its_own_way(service: Service, model: Scripted) -> None:
    user = service.caller()
    session = await user.session(title="first")
    with_tools(model)
    await user.chat(session.session_id, "one")
    messages = await user.messages(session.session_id)
    await user.chat(session.session_id, "two")
    fields = {"session_id": session.session_id, "message_id": messages[-1].message_id}
    fork = await ask(user, "ForkSession", request_id="f", **fields)
    assert (await ask(user, "ForkSession", request_id="f", **fields)).session_id == fork.session_id
    assert (fork.parent_session_id, fork.parent_message_id, fork.title, fork.message_count) == (
        session.session_id,
        messages[-1].message_id,
        "first",
        4,
    )
    copied = await user.messages(fork.session_id)
    for mine, theirs in zip(copied, messages, strict=True):
        assert mine.message_id != theirs.message_id
        assert (mine.session_id, mine.turn_id) == (fork.session_id, "")
        assert (mine.text, mine.sequence, mine.create_time) == (
            theirs.text,
            theirs.sequence,
            theirs.create_time,
        )
        assert (mine.tool_calls, mine.tool_results) == (theirs.tool_calls, theirs.tool_results)
    await user.chat(fork.session_id, "otherwise")
    told = [said.text for said in model.requests[-1].messages if said.text]
    assert told[0] == "one"
    assert "two" not in told
    assert len(await user.messages(session.session_id)) == 8
    children = await ask(user, "ListSessions", parent_session_id=session.session_id)
    assert [each.session_id for each in children.sessions] == [fork.session_id]
    await ask(user, "DeleteSession", session_id=session.session_id)
    assert len(await user.messages(fork.session_id)) == 8
    assert (await user.chat(fork.session_id, "still there?")).text


async def test_fork_is_refused_where_it_may_not_be(service: Service) -> None:
    user = service.caller()
    session, other = await user.session(), await user.session()
    await user.chat(session.session_id)
    message = (await user.messages(session.session_id))[0].message_id
    elsewhere = ask(user, "ForkSession", session_id=other.session_id, message_id=message)
    assert (await refusal(elsewhere)).status == "NOT_FOUND"
    fields = {"session_id": session.session_id, "message_id": message}
    for stranger in (service.caller(), service.caller(user.tenant)):
        assert (await refusal(ask(stranger, "ForkSession", **fields))).status == "NOT_FOUND"
    admin = service.caller(user.tenant, role="admin")
    assert (await refusal(ask(admin, "ForkSession", **fields))).reason == "NOT_ALLOWED"
    archive = agents.ArchiveAgentRequest(agent_id=session.agent_id)
    await user.call("AgentService.ArchiveAgent", archive)
    assert (await refusal(ask(user, "ForkSession", **fields))).reason == "WRONG_STATE"


async def rows(service: Service, tenant: str, query: str) -> Any:
    connection = await asyncpg.connect(service.database.app("agent"))
    try:
        await connection.execute("select set_config('app.tenant', $1, false)", tenant)
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_deleted_session_is_gone_but_for_what_it_used(service: Service) -> None:
    user = service.caller()
    session = await user.session(title="secret title")
    turn = await user.chat(session.session_id, "secret words")
    request = {"session_id": session.session_id, "request_id": "d"}
    gone = await ask(user, "DeleteSession", **request)
    assert gone.session_id == session.session_id
    assert await ask(user, "DeleteSession", **request) == gone
    by_id = {"session_id": session.session_id}
    for name in ("GetSession", "ListMessages", "ExportSession", "DeleteSession"):
        assert (await refusal(ask(user, name, **by_id))).status == "NOT_FOUND", name
    for refused in (user.turn(turn.turn_id), user.start(session.session_id)):
        assert (await refusal(refused)).status == "NOT_FOUND"
    assert not (await ask(user, "ListSessions")).sessions
    turns = await user.call("TurnService.ListTurns", turn_service_pb2.ListTurnsRequest())
    assert not turns.turns
    for table in ("sessions", "turns", "messages", "model_attempts", "idempotency"):
        text = f"select coalesce(string_agg(t::text, ' '), '') from agent.{table} t"  # noqa: S608
        assert "secret" not in await rows(service, user.tenant, text), table
    used = "select sum(input_tokens) from agent.turns"
    assert await rows(service, user.tenant, used) == turn.usage.input_token_count
    assert await rows(service, user.tenant, "select count(*) from agent.messages") == 0
    assert await rows(service, user.tenant, "select count(*) from agent.model_attempts") == 1


async def test_session_with_a_turn_that_runs_is_deleted_by_force_alone(
    service: Service, model: Scripted
) -> None:
    user = service.caller()
    session = await user.session()
    model.gate.clear()
    turn = await user.start(session.session_id)
    await model.begun.wait()
    refused = await refusal(ask(user, "DeleteSession", session_id=session.session_id))
    assert refused.reason == "SESSION_BUSY"
    assert refused.metadata["resource"] == turn.turn_id
    admin = service.caller(user.tenant, role="admin")
    for other in (service.caller(), service.caller(user.tenant)):
        by_force = ask(other, "DeleteSession", session_id=session.session_id, force=True)
        assert (await refusal(by_force)).status == "NOT_FOUND"
    assert (await user.turn(turn.turn_id)).state in LIVE
    await ask(admin, "DeleteSession", session_id=session.session_id, force=True)
    assert (await refusal(user.turn(turn.turn_id))).status == "NOT_FOUND"
    assert await rows(service, user.tenant, "select state from agent.turns") == "cancelled"
    model.gate.set()
    follow = await user.session()
    assert (await user.chat(follow.session_id)).text


async def test_deletion_at_two_replicas_beside_those_who_speak_leaves_nothing(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> None:
    async with two_replicas(database, peers, tmp_path, model) as users:
        user = users[0]
        agent = await user.agent()
        for _ in range(3):
            session = await user.session(agent.agent_id)
            by_force = {"session_id": session.session_id, "force": True}
            answers = await asyncio.gather(
                *(each.call("TurnService.StartTurn", start(session.session_id)) for each in users),
                *(ask(each, "DeleteSession", **by_force) for each in users),
                return_exceptions=True,
            )
            refused = [each for each in answers if isinstance(each, BaseException)]
            assert all(isinstance(each, DomainError) for each in refused), refused
            reasons = {each.reason for each in refused if isinstance(each, DomainError)}
            assert reasons <= {"NOT_FOUND", "SESSION_BUSY"}
            assert any(isinstance(each, pb.DeleteSessionResponse) for each in answers)
            assert (await refusal(user.messages(session.session_id))).status == "NOT_FOUND"
        left = "select count(*) from agent.messages"
        assert await rows(user.service, user.tenant, left) == 0
        live = "select count(*) from agent.turns where state in ('queued', 'running')"
        assert await rows(user.service, user.tenant, live) == 0
