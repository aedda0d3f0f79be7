"""Calls that a person has to approve: who may, for how long, and what comes of it, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.protobuf import duration_pb2

from gathering.skills.v1 import execution_pb2
from gathering_mesh.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from gathering_mesh.ids import new_id
from tests.chaos.arming import Faults
from tests.integration.skills.harness import (
    AWAITING,
    CANCELLED,
    DENIED,
    DONE,
    EXECUTE,
    EXPIRED,
    FAILED,
    READ,
    REQUESTED,
    RUNNING,
    Caller,
    Issuer,
    Service,
    serving,
)
from tests.integration.skills.process import Replica, replica
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


@dataclass(frozen=True)
class Asking:
    """An agent that needs approval to execute, and the member whom it serves."""

    admin: Caller
    user: Caller
    agent: str
    workspace: str
    folder: Path

    async def ask(self, path: str = "p", **fields: Any) -> execution_pb2.Execution:
        """Let the agent ask for an effect that happens once."""
        return await self.user.through().execute(
            "probe_once", self.workspace, agent=self.agent, path=path, **fields
        )

    def effects(self, path: str = "p") -> list[str]:
        """Return what happened."""
        file = self.folder / path
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
async def asking(admin: Caller, workspace: str, ground: Path) -> Asking:
    """An agent of a member's."""
    return await an_agent(admin, workspace, ground)


async def an_agent(admin: Caller, workspace: str, ground: Path, **fields: Any) -> Asking:
    agent = new_id("agt")
    await admin.grant(agent, "probe", READ, EXECUTE, ask_permissions=[EXECUTE], **fields)
    return Asking(admin, admin.member(), agent, workspace, ground)


async def refusal(attempt: Awaitable[Any]) -> DomainError:
    """Return the error with which an attempt is refused."""
    with pytest.raises(DomainError) as refused:
        await attempt
    return refused.value


async def test_call_waits_for_its_approval_and_then_runs_once(asking: Asking) -> None:
    asked = await asking.ask(request_id="r")
    assert (asked.state, asked.attempt_count) == (AWAITING, 0)
    assert len(asked.approval.digest) == 64
    assert asked.approval.expire_time.seconds - asked.create_time.seconds in range(3595, 3606)
    assert asking.effects() == []
    waiting = await asking.user.list(state=AWAITING)
    assert [one.execution_id for one in waiting.executions] == [asked.execution_id]
    approved = await asking.user.approve(asked, comment="go on")
    assert approved.state in {REQUESTED, RUNNING, DONE}
    ended = await asking.user.ended(asked.execution_id)
    assert (ended.state, ended.attempt_count) == (DONE, 1)
    assert ended.approval.decided_by_user_id == asking.user.user
    assert ended.approval.comment == "go on"
    assert ended.approval.HasField("decide_time")
    assert asking.effects() == [asked.execution_id]
    again = await asking.ask(request_id="r")
    assert (again.execution_id, again.state) == (asked.execution_id, DONE)
    assert not (await asking.user.list(state=AWAITING)).executions


async def test_call_that_needs_no_approval_runs_at_once(asking: Asking) -> None:
    done = await asking.user.through().execute(
        "probe_slow", asking.workspace, agent=asking.agent, path="s", seconds=0
    )
    assert done.state == DONE
    assert not done.HasField("approval")
    assert (await refusal(asking.user.approve(done, digest="0"))).reason == "APPROVAL_CLOSED"


async def test_denied_call_never_runs_and_says_why(asking: Asking) -> None:
    asked = await asking.ask()
    denied = await asking.user.deny(asked, "not on a Sunday")
    assert (denied.state, denied.error_reason) == (DENIED, "APPROVAL_DENIED")
    assert denied.error_message == "a person denied it: not on a Sunday"
    assert (await asking.user.deny(asked)).state == DENIED
    closed = await refusal(asking.user.approve(asked))
    assert isinstance(closed, FailedPrecondition)
    assert (closed.reason, closed.metadata["state"]) == ("APPROVAL_CLOSED", "denied")
    assert asking.effects() == []


async def test_call_that_nobody_approves_in_time_expires(
    admin: Caller, workspace: str, ground: Path
) -> None:
    asking = await an_agent(
        admin, workspace, ground, approval_timeout=duration_pb2.Duration(seconds=1)
    )
    asked = await asking.ask()
    ended = await asking.user.ended(asked.execution_id)
    assert (ended.state, ended.error_reason) == (EXPIRED, "APPROVAL_EXPIRED")
    late = await refusal(asking.user.approve(asked))
    assert late.reason == "APPROVAL_CLOSED"
    assert asking.effects() == []


async def test_cancelled_call_cannot_be_approved(asking: Asking) -> None:
    asked = await asking.ask()
    assert (await asking.user.cancel(asked.execution_id)).state == CANCELLED
    assert (await refusal(asking.user.approve(asked))).reason == "APPROVAL_CLOSED"
    assert asking.effects() == []


async def test_others_than_the_user_and_administrators_decide_nothing(
    asking: Asking, service: Service
) -> None:
    asked = await asking.ask()
    stranger, foreign = asking.admin.member(), service.caller()
    for nobody in (stranger, foreign):
        for attempt in (nobody.approve(asked), nobody.deny(asked)):
            assert isinstance(await refusal(attempt), NotFound)
    for agent in (asking.user.through(), asking.user.through("gateway"), asking.admin.through()):
        assert isinstance(await refusal(agent.approve(asked)), PermissionDenied)
    viewer = replace(asking.user, role="viewer", scopes="skills.read")
    assert isinstance(await refusal(viewer.approve(asked)), PermissionDenied)
    assert (await asking.admin.get(asked.execution_id)).state == AWAITING
    assert asking.effects() == []


async def test_nobody_approves_what_they_asked_for(asking: Asking) -> None:
    asked = await asking.admin.execute("probe_once", asking.workspace, agent=asking.agent, path="p")
    assert asked.state == AWAITING
    own = await refusal(asking.admin.approve(asked))
    assert (own.status, own.reason) == ("PERMISSION_DENIED", "NOT_ALLOWED")
    other = replace(asking.admin, user=new_id("usr"))
    await other.approve(asked)
    assert (await asking.admin.ended(asked.execution_id)).state == DONE


async def test_decision_about_something_else_counts_nothing(asking: Asking) -> None:
    asked, other = await asking.ask("one"), await asking.ask("two")
    assert asked.approval.digest != other.approval.digest
    stale = await refusal(asking.user.approve(asked, digest=other.approval.digest))
    assert (stale.reason, list(stale.fields)) == ("APPROVAL_STALE", ["digest"])
    assert isinstance(await refusal(asking.user.approve(asked, digest="x" * 65)), InvalidArgument)
    assert (await asking.user.get(asked.execution_id)).state == AWAITING


async def test_agent_that_lost_its_grant_gets_no_approval(asking: Asking) -> None:
    asked = await asking.ask()
    await asking.admin.grant(asking.agent, "probe", READ)
    assert (await refusal(asking.user.approve(asked))).reason == "TOOL_NOT_GRANTED"
    assert (await asking.user.deny(asked)).state == DENIED


async def test_grant_asks_for_nothing_that_it_does_not_grant(admin: Caller) -> None:
    wrong = await refusal(admin.grant(new_id("agt"), "probe", READ, ask_permissions=[EXECUTE]))
    assert (wrong.reason, list(wrong.fields)) == ("INVALID_FIELD", ["ask_permissions"])


async def test_many_decisions_at_once_on_two_replicas_are_one(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with (
        serving(database, issuer, tmp_path, (str(roots),)) as one,
        serving(database, issuer, tmp_path, (str(roots),)) as two,
    ):
        admin = one.caller()
        asking = await an_agent(admin, await admin.workspace(ground), ground)
        for number in range(4):
            asked = await asking.ask(f"p{number}")
            here = asking.user
            there = replace(asking.admin, channel=two.channel)
            votes = [here.approve(asked), there.approve(asked), there.deny(asked), here.deny(asked)]
            given = await asyncio.gather(*votes, return_exceptions=True)
            lost = {v.reason for v in given if isinstance(v, DomainError)}
            assert lost <= {"APPROVAL_CLOSED", "CONFLICT"}  # CONFLICT: waited for the row too long
            assert len([v for v in given if not isinstance(v, BaseException)]) == 1
            ended = await asking.user.ended(asked.execution_id)
            assert ended.state in {DONE, DENIED}
            assert len(asking.effects(f"p{number}")) == (ended.state == DONE)


async def test_approved_call_runs_once_although_its_replica_dies(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with replica(database, issuer, tmp_path, (str(roots),)) as first:
        admin = Caller(first.channel, issuer, new_id("ten"), new_id("usr"))
        asking = await an_agent(admin, await admin.workspace(ground), ground)
        asked = await asking.ask(before=1.0)
        await asking.user.approve(asked)
        await eventually(partial(_has_begun, asking), "it runs")
        await first.kill()
    async with replica(database, issuer, tmp_path, (str(roots),)) as second:
        user = replace(asking.user, channel=second.channel)
        ended = await user.ended(asked.execution_id)
        assert ended.error_reason == "UNKNOWN_OUTCOME"
        assert (await refusal(user.deny(asked))).reason == "APPROVAL_CLOSED"
        assert (await user.approve(asked)).error_reason == "UNKNOWN_OUTCOME"
    assert len(asking.effects("p.begun")) == 1


async def _has_begun(asking: Asking) -> bool:
    return bool(asking.effects("p.begun"))


async def test_tool_that_changed_since_the_approval_does_not_run(
    asking: Asking, database: TestDatabase
) -> None:
    asked = await asking.ask()
    async with database.server.admin(database.name) as connection:
        await _another_question(connection, asked.execution_id)
    changed = await asking.user.get(asked.execution_id)
    await asking.user.approve(changed)
    ended = await asking.user.ended(asked.execution_id)
    assert (ended.state, ended.error_reason) == (FAILED, "APPROVAL_EXPIRED")
    assert asking.effects() == []


async def _another_question(connection: asyncpg.Connection, execution_id: str) -> None:
    """Leave what another version of the tool would have asked."""
    await connection.execute(
        "update skills.executions set approval_digest = $2 where id = $1", execution_id, "0" * 64
    )


async def test_approval_given_twice_counts_once(asking: Asking) -> None:
    asked = await asking.ask()
    other = replace(asking.admin, user=new_id("usr"))
    first = await asking.user.approve(asked, request_id="yes")
    again = [await asking.user.approve(asked, request_id=name) for name in ("yes", "once more")]
    assert {one.approval.decide_time.ToNanoseconds() for one in again} == {
        first.approval.decide_time.ToNanoseconds()
    }
    assert (await refusal(other.approve(asked))).reason == "APPROVAL_CLOSED"
    ended = await asking.user.ended(asked.execution_id)
    assert (ended.state, ended.attempt_count) == (DONE, 1)
    assert (await asking.user.approve(asked)).state == DONE
    assert (await refusal(asking.user.deny(asked))).reason == "APPROVAL_CLOSED"
    assert asking.effects() == [asked.execution_id]


async def test_arguments_that_changed_since_the_question_do_not_run(
    asking: Asking, database: TestDatabase
) -> None:
    asked = await asking.ask(request_id="r")
    reused = await refusal(asking.ask("elsewhere", request_id="r"))
    assert reused.reason == "REQUEST_ID_REUSED"
    async with database.server.admin(database.name) as connection:
        await connection.execute(
            "update skills.executions set arguments = replace(arguments, '\"p\"', '\"q\"')"
            " where id = $1",
            asked.execution_id,
        )
    await asking.user.approve(asked)
    ended = await asking.user.ended(asked.execution_id)
    assert (ended.state, ended.error_reason) == (FAILED, "APPROVAL_EXPIRED")
    assert asking.effects() == asking.effects("q") == []


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    """The fault points of processes that are started from now on."""
    found = Faults(tmp_path / "faults")
    found.folder.mkdir()
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def started(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path
) -> Callable[[], AbstractAsyncContextManager[Replica]]:
    """Start a replica."""
    return partial(replica, database, issuer, tmp_path, (str(roots),))


# Effects by the point between decision and end at which the service dies.
DEATHS = {
    "mutation.finished": 1,  # the decision is not committed, and given again
    "mutation.committed": 1,  # it is committed and not answered
    "work.claimed": 1,
    "execution.started": 0,
    "execution.effected": 1,
}


@pytest.mark.parametrize("point", DEATHS)
async def test_replica_that_dies_between_decision_and_end_runs_nothing_twice(
    point: str,
    started: Callable[[], AbstractAsyncContextManager[Replica]],
    issuer: Issuer,
    ground: Path,
    faults: Faults,
) -> None:
    async with started() as first:
        admin = Caller(first.channel, issuer, new_id("ten"), new_id("usr"))
        asking = await an_agent(admin, await admin.workspace(ground), ground)
        asked = await asking.ask()
        faults.arm(point, "kill")
        with suppress(DomainError):
            await asking.user.approve(asked, request_id="yes")
        await asyncio.wait_for(first.process.wait(), 40)
    async with started() as second:
        user = replace(asking.user, channel=second.channel)
        await user.approve(asked, request_id="yes")
        ended = await user.ended(asked.execution_id)
    assert ended.approval.decided_by_user_id == user.user
    known = point not in ("execution.started", "execution.effected")
    assert (ended.state == DONE) is known
    assert ended.error_reason == ("" if known else "UNKNOWN_OUTCOME")
    assert asking.effects() == [asked.execution_id] * DEATHS[point]
