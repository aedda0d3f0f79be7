"""On whose right a turn works, who may name a task, and what attempts at model calls used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gathering.agent.v1 import turn_pb2, turn_service_pb2
from gathering_agent.errors import ModelFailed
from gathering_mesh.errors import DomainError, Unauthenticated
from gathering_mesh.ids import new_id
from tests.integration.agent.harness import Caller, Scripted, Service, serving
from tests.integration.agent.peers import Peers
from tests.support.postgres import TestDatabase

COMPLETED = turn_pb2.TURN_STATE_COMPLETED


def for_task(user: Caller) -> Caller:
    """Return the user as the orchestrator speaks for them: by a delegation for a task."""
    return replace(user.through("orchestrator"), delegation=new_id("dlg"))


async def test_owner_speaks_on_after_the_task_of_a_session_has_ended(service: Service) -> None:
    user = service.caller()
    task = for_task(user)
    session = await task.session()
    assert (await task.chat(session.session_id)).state == COMPLETED
    assert (await user.chat(session.session_id)).state == COMPLETED
    auth = service.peers.auth
    assert sorted(auth.made_under.values()) == ["", task.delegation]
    auth.revoked.add(task.delegation)
    assert (await user.chat(session.session_id)).state == COMPLETED


async def test_revoked_delegation_is_replaced_when_its_user_speaks_again(
    service: Service, database: TestDatabase, tmp_path: Path
) -> None:
    user = service.caller()
    session = await user.session()
    auth = service.peers.auth
    auth.revoked.update(auth.delegations)
    # A replica that has no token of the delegation any more.
    async with serving(database, service.peers, tmp_path, service.model) as fresh:
        there = replace(user, service=fresh)
        assert (await there.chat(session.session_id)).state == COMPLETED
    assert len(auth.delegations) == 2


async def test_turn_for_a_task_whose_delegation_ended_fails(
    service: Service, database: TestDatabase, peers: Peers, tmp_path: Path
) -> None:
    task = for_task(service.caller())
    session = await task.session()
    peers.auth.revoked.add(task.delegation)
    async with serving(database, peers, tmp_path, service.model) as fresh:
        turn = await replace(task, service=fresh).chat(session.session_id)
    assert (turn.state, turn.error_reason) == (turn_pb2.TURN_STATE_FAILED, "CREDENTIALS_REVOKED")


async def test_running_turn_whose_delegation_ends_fails_with_its_next_tool_call(
    service: Service, model: Scripted
) -> None:
    auth, skills = service.peers.auth, service.peers.skills
    auth.lifetime = 30.0  # so near its end, a token is replaced at each use

    async def revoke(arguments: dict[str, Any]) -> dict[str, Any]:
        auth.revoked.update(auth.delegations)
        return {}

    skills.tools["work"] = revoke
    model.reply = lambda request: ("on", [("work", {})])
    user = service.caller()
    turn = await user.chat((await user.session()).session_id)
    assert (turn.state, turn.error_reason) == (turn_pb2.TURN_STATE_FAILED, "CREDENTIALS_REVOKED")
    assert sum(skills.runs.values()) == 1


async def test_token_that_ends_on_its_way_costs_the_turn_nothing(service: Service) -> None:
    expired = Unauthenticated("the token has expired", reason="TOKEN_EXPIRED")
    service.peers.skills.faults.append(expired)
    user = service.caller()
    assert (await user.chat((await user.session()).session_id)).state == COMPLETED


async def test_only_the_orchestrator_names_a_task(service: Service) -> None:
    user = service.caller()
    session = await user.session()
    task_id = new_id("tsk")
    with pytest.raises(DomainError) as caught:
        await user.start(session.session_id, task_id=task_id)
    assert (caught.value.status, caught.value.reason) == ("PERMISSION_DENIED", "NOT_ALLOWED")
    turn = await user.through("orchestrator").start(session.session_id, task_id=task_id)
    assert turn.task_id == task_id
    request = turn_service_pb2.ListTurnsRequest(task_id=task_id)
    assert len((await user.call("TurnService.ListTurns", request)).turns) == 1


async def test_failed_attempts_are_recorded_and_counted_once(
    service: Service, model: Scripted, database: TestDatabase
) -> None:
    refused = ModelFailed("busy", retry_after=0.01)
    refused.refused = True
    model.reply = lambda request: ("one two three four five six", [])
    model.failures = [ModelFailed("cut", retry_after=0.01), refused]
    user = service.caller()
    session = await user.session()
    turn = await user.chat(session.session_id)
    usage = turn.usage
    assert (usage.model_call_count, usage.input_token_count, usage.output_token_count) == (1, 7, 3)
    assert usage.failed_call_count == 2
    assert usage.failed_token_count > 0
    assert (await user.turn(turn.turn_id)).usage == usage
    async with database.server.admin(database.name) as admin:
        rows = await admin.fetch(
            "select error_reason, estimated, output_tokens from agent.model_attempts"
            " where turn_id = $1 order by generation",
            turn.turn_id,
        )
    assert [(r["error_reason"], r["estimated"]) for r in rows] == [
        ("MODEL_FAILED", True), ("MODEL_FAILED", True), ("", False)
    ]  # fmt: skip


async def test_cancelled_call_of_a_model_is_counted(service: Service, model: Scripted) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, "one two three four five six")
    await model.begun.wait()
    await user.cancel(turn.turn_id)
    model.gate.set()

    await user.chat(session.session_id)
    usage = (await user.turn(turn.turn_id)).usage
    assert (usage.model_call_count, usage.failed_call_count) == (0, 1)
