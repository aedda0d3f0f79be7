"""Executions through the port: run, repeat, wait, watch, list, cancel, fail."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from gathering.skills.v1.skill_service_pb2 import ListSkillsRequest
from gathering_mesh.errors import InvalidArgument, NotFound
from gathering_mesh.ids import new_id
from tests.integration.skills.harness import (
    CANCELLED,
    DONE,
    FAILED,
    REQUESTED,
    RUNNING,
    UNKNOWN,
    Caller,
    Service,
    arguments_of,
    output_of,
)
from tests.support.waiting import eventually


async def test_tool_runs_and_its_file_is_recorded(
    admin: Caller, workspace: str, ground: Path
) -> None:
    execution = await admin.execute("fs_write", workspace, path="a/b.txt", content="hello\n")
    assert execution.state == DONE
    assert (ground / "a/b.txt").read_text() == "hello\n"
    (artifact,) = execution.artifacts
    assert artifact.path == "a/b.txt"
    assert artifact.sha256 == hashlib.sha256(b"hello\n").hexdigest()
    assert artifact.size_bytes == 6
    assert execution.attempt_count == 1
    assert execution.end_time.ToNanoseconds() >= execution.start_time.ToNanoseconds() > 0
    read = await admin.output("fs_read", workspace, path="a/b.txt")
    assert read["content"] == "hello\n"
    assert read["sha256"] == artifact.sha256


async def test_repeat_finds_the_same_execution_and_other_arguments_are_refused(
    admin: Caller, workspace: str, ground: Path
) -> None:
    first = await admin.execute("probe_once", workspace, request_id="r", path="ledger")
    again = await admin.execute("probe_once", workspace, request_id="r", path="ledger", wait=1)
    assert again == first
    assert (ground / "ledger").read_text().count("\n") == 1
    with pytest.raises(InvalidArgument) as refused:
        await admin.execute("probe_once", workspace, request_id="r", path="other")
    assert refused.value.reason == "REQUEST_ID_REUSED"
    # The name is that of one caller: neither another user nor a service comes in its way.
    theirs = await admin.through("agent").execute(
        "probe_once", workspace, request_id="r", path="other"
    )
    assert theirs.execution_id != first.execution_id


async def test_twins_at_once_run_once(admin: Caller, workspace: str, ground: Path) -> None:
    found = await asyncio.gather(
        *(
            admin.execute("probe_once", workspace, request_id="twin", path="ledger", before=0.2)
            for _ in range(12)
        )
    )
    assert len({execution.execution_id for execution in found}) == 1
    assert {execution.state for execution in found} == {DONE}
    assert (ground / "ledger").read_text().count("\n") == 1


async def test_wait_ends_before_the_tool_and_the_tool_goes_on(
    admin: Caller, workspace: str
) -> None:
    early = await admin.execute("probe_slow", workspace, path="p", seconds=0.8, wait=0)
    assert early.state in {REQUESTED, RUNNING}
    short = await admin.execute(
        "probe_slow", workspace, request_id="s", path="p", seconds=60, wait=30, timeout=3.0
    )
    assert short.state in {REQUESTED, RUNNING}  # answered before the caller's deadline
    await admin.cancel(short.execution_id)
    assert (await admin.ended(early.execution_id)).state == DONE


async def test_watch_tells_states_up_to_the_end(admin: Caller, workspace: str) -> None:
    execution = await admin.execute("probe_slow", workspace, path="p", seconds=1.5, wait=0)
    seen = [message async for message in admin.watch(execution.execution_id)]
    states = [message.execution.state for message in seen]
    assert states[-1] == DONE
    assert RUNNING in states
    assert [message.end for message in seen] == [False] * (len(seen) - 1) + [True]
    over = [message async for message in admin.watch(execution.execution_id)]
    assert [(m.execution.state, m.end) for m in over] == [(DONE, True)]


async def test_cancel_stops_what_runs(admin: Caller, workspace: str, ground: Path) -> None:
    slow = await admin.execute("probe_slow", workspace, path="p", seconds=15, wait=0)
    cancelled = await admin.cancel(slow.execution_id)
    assert (cancelled.state, cancelled.error_reason) == (CANCELLED, "CANCELLED")
    assert await admin.cancel(slow.execution_id) == cancelled
    once = await admin.execute("probe_once", workspace, path="l", after=15, wait=0.5)
    assert once.state == RUNNING
    ended = await admin.cancel(once.execution_id)
    assert (ended.state, ended.error_reason) == (UNKNOWN, "UNKNOWN_OUTCOME")
    done = await admin.execute("fs_info", workspace, path="l")
    assert (await admin.cancel(done.execution_id)).state == DONE


async def test_ways_to_fail_are_told(admin: Caller, workspace: str) -> None:
    late = await admin.execute("probe_late")
    assert (late.state, late.error_reason) == (FAILED, "TOOL_TIMEOUT")
    once = await admin.execute("probe_late_once")
    assert (once.state, once.error_reason) == (UNKNOWN, "UNKNOWN_OUTCOME")
    said_no = await admin.execute("probe_once", workspace, path="l", fail="tool")
    assert (said_no.state, said_no.error_reason) == (FAILED, "TOOL_FAILED")
    assert said_no.error_message == "it said no"
    broke = await admin.execute("probe_once", workspace, path="l", fail="bug")
    assert broke.state == UNKNOWN
    assert "bug" not in broke.error_message


async def test_large_result_is_cut_and_says_so(admin: Caller) -> None:
    output = await admin.output("probe_large", characters=200_000)
    assert output["note"] == "kept"
    assert output["cut"]["full_bytes"] > 200_000
    (part,) = output["cut"]["parts"]
    assert (part["field"], part["of"]) == ("text", 200_000)
    assert len(output["text"]) == part["kept"]


async def test_list_pages_without_output_and_filters(admin: Caller, workspace: str) -> None:
    agent = new_id("agt")
    await admin.grant(agent, "filesystem")
    made = [await admin.execute("fs_info", workspace, path=".") for _ in range(4)]
    mine = await admin.execute("fs_info", workspace, path=".", agent=agent)
    listed: list[Any] = []
    token = ""
    while True:
        page = await admin.list(page_size=2, page_token=token)
        listed += page.executions
        token = page.next_page_token
        if not token:
            break
    assert [e.execution_id for e in listed] == [e.execution_id for e in (mine, *reversed(made))]
    assert not any(output_of(execution) for execution in listed)
    assert all(arguments_of(execution) == {"path": "."} for execution in listed)
    assert all(execution.state == DONE for execution in listed)
    only = await admin.list(agent_id=agent)
    assert [e.execution_id for e in only.executions] == [mine.execution_id]
    with pytest.raises(InvalidArgument) as refused:
        await admin.list(page_token="bm9uZQ")
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


async def test_list_of_large_arguments_is_small(admin: Caller, workspace: str) -> None:
    for number in range(12):
        await admin.execute("fs_write", workspace, path=f"f{number}", content="x" * 900_000)
    page = await admin.list(page_size=200)
    assert page.ByteSize() < 20_000
    assert len(page.executions) == 12
    whole = await admin.get(page.executions[0].execution_id)
    assert len(arguments_of(whole)["content"]) == 900_000


async def test_many_who_wait_leave_room_for_others(
    admin: Caller, workspace: str, service: Service
) -> None:
    calls = [
        asyncio.create_task(
            admin.execute("probe_slow", workspace, path="p", seconds=90, wait=90, timeout=100)
        )
        for _ in range(80)
    ]

    async def no_more_wait() -> bool:
        return sum(task.done() for task in calls) >= 80 - 64

    await eventually(no_more_wait, "those without room are answered")
    answered = [task for task in calls if task.done()]
    waiting = [task for task in calls if not task.done()]
    assert len(answered) == 80 - 64
    assert {task.result().state for task in answered} <= {REQUESTED, RUNNING}
    other = service.caller()
    assert (await other.call("SkillService", "ListSkills", ListSkillsRequest())).skills
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    for execution in (await admin.list(page_size=100)).executions:
        await admin.cancel(execution.execution_id)


async def test_executions_are_seen_by_their_user_and_administrators(
    admin: Caller, workspace: str
) -> None:
    member, other = admin.member(), admin.member()
    execution = await member.execute("fs_info", workspace, path=".")
    assert (await admin.get(execution.execution_id)).execution_id == execution.execution_id
    for attempt in (other.get, other.cancel, other.ended):
        with pytest.raises((NotFound, Exception)) as refused:
            await attempt(execution.execution_id)
        assert "no execution" in str(refused.value)
    assert not (await other.list()).executions
    assert len((await member.list()).executions) == 1
