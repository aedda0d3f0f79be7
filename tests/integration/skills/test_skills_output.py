"""What tools tell: seen while it comes, at every replica, and whole in the execution."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest

from gathering.skills.v1 import execution_pb2
from gathering_mesh.errors import InvalidArgument, NotFound
from tests.integration.skills.harness import (
    DONE,
    RUNNING,
    Caller,
    Issuer,
    Service,
    output_of,
    serving,
)
from tests.integration.skills.process import replica
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)
BOUND = 16 * 1024 * 1024


@dataclass
class Watcher:
    """Somebody who follows what a tool tells, as a client does."""

    caller: Caller
    execution_id: str
    attempt: int = 0
    text: bytes = b""
    states: list[execution_pb2.Execution] = field(default_factory=list)
    ended: bool = False

    async def run(self) -> None:
        """Follow to the end, or until the stream is cut."""
        stream = self.caller.watch(
            self.execution_id,
            follow_output=True,
            output_offset_bytes=len(self.text),
            output_attempt=self.attempt,
        )
        async for message in stream:
            assert not self.ended, "something came behind the end"
            if message.HasField("output"):
                self.take(message.output)
            else:
                self.states.append(message.execution)
                self.ended = message.end

    def take(self, output: execution_pb2.ExecutionOutput) -> None:
        """Add a piece; a later attempt voids what came before."""
        if output.attempt != self.attempt:
            assert output.attempt > self.attempt
            self.attempt, self.text = output.attempt, b""
        assert output.offset_bytes == len(self.text), "a piece is missing or came twice"
        self.text += output.text.encode()

    async def sees(self, text: str) -> None:
        """Wait until it has seen a text."""

        async def seen() -> bool:
            return text.encode() in self.text

        await eventually(seen, f"{text!r} is seen")


def told(attempt: int, count: int, size: int = 0) -> str:
    """Return what `probe_tell` tells, without its last line."""
    return "".join(f"{attempt} {number} {'ö' * size}\n" for number in range(count))


def run(*watchers: Watcher) -> asyncio.Future[Any]:
    return asyncio.gather(*(asyncio.create_task(watcher.run()) for watcher in watchers))


async def test_output_is_seen_while_it_comes_at_every_replica_and_whole_at_the_end(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with (
        serving(database, issuer, tmp_path, (str(roots),)) as one,
        serving(database, issuer, tmp_path, (str(roots),)) as two,
    ):
        here = one.caller()
        there = Caller(two.channel, issuer, here.tenant, here.user)
        workspace = await here.workspace(ground)
        execution = await here.execute(
            "probe_tell", workspace, path="go", pauses=[0, 0, 0.5], size=30, wait=0
        )
        watchers = [Watcher(caller, execution.execution_id) for caller in (here, there)]
        running = run(*watchers)
        await asyncio.gather(*(watcher.sees(told(1, 3, 30)) for watcher in watchers))
        part = await there.read_output(execution.execution_id)
        assert (part.complete, part.output.text) == (False, told(1, 3, 30))
        late = Watcher(there, execution.execution_id, 1, told(1, 2, 30).encode())
        late_running = run(late)
        await late.sees(told(1, 3, 30))
        (ground / "go").touch()
        await asyncio.gather(running, late_running)
        after = Watcher(there, execution.execution_id)
        await after.run()
        whole = told(1, 3, 30) + "last\n"
        for watcher in (*watchers, late, after):
            assert (watcher.text.decode(), watcher.attempt) == (whole, 1)
            assert (watcher.ended, watcher.states[-1].state) == (True, DONE)
        # Who wants no output sees states alone.
        states = [message async for message in there.watch(execution.execution_id)]
        assert [(m.end, m.HasField("output")) for m in states] == [(True, False)]
        part = await there.read_output(execution.execution_id)
        assert (part.complete, part.cut, part.total_bytes) == (True, False, len(whole.encode()))
        for limit in (1, 7, 50):
            assert await here.whole_output(execution.execution_id, limit_bytes=limit) == whole


async def test_killed_replica_in_mid_output_leaves_consistent_places(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with (
        serving(database, issuer, tmp_path, (str(roots),), concurrent_executions=1) as standing,
        replica(database, issuer, tmp_path, (str(roots),)) as killed,
    ):
        admin = standing.caller()
        workspace = await admin.workspace(ground)
        other = killed.as_seen_from(admin)
        # The only place of the replica that stands is taken, so the other one runs it.
        blocking = await admin.execute("probe_slow", workspace, path="p", seconds=60, wait=0)

        async def blocks() -> bool:
            return (await admin.get(blocking.execution_id)).state == RUNNING

        await eventually(blocks, "the place is taken")
        execution = await other.execute(
            "probe_tell", workspace, path="go", pauses=[0, 0, 0], size=5, wait=0
        )
        at_both = [Watcher(caller, execution.execution_id) for caller in (admin, other)]
        running = [asyncio.create_task(watcher.run()) for watcher in at_both]
        await asyncio.gather(*(watcher.sees(told(1, 3, 5)) for watcher in at_both))
        await killed.kill()
        await admin.cancel(blocking.execution_id)
        with pytest.raises(grpc.aio.AioRpcError):
            await running[1]
        # Whoever was cut off goes on elsewhere, from where it was.
        moved = Watcher(admin, execution.execution_id, at_both[1].attempt, at_both[1].text)
        running[1] = asyncio.create_task(moved.run())
        await asyncio.gather(*(watcher.sees(told(2, 3, 5)) for watcher in (at_both[0], moved)))
        (ground / "go").touch()
        await asyncio.gather(running[0], running[1])
        for watcher in (at_both[0], moved):
            assert watcher.text.decode() == told(2, 3, 5) + "last\n"
            assert (watcher.attempt, watcher.ended) == (2, True)
        assert await admin.whole_output(execution.execution_id) == told(2, 3, 5) + "last\n"
        stale = await admin.read_output(execution.execution_id, attempt=1, offset_bytes=11)
        assert (stale.output.attempt, stale.output.offset_bytes) == (2, 0)
    connection = await asyncpg.connect(database.admin)
    try:
        kept = await connection.fetch("select distinct attempt from skills.outputs")
        assert [row["attempt"] for row in kept] == [2]
    finally:
        await connection.close()


async def test_output_above_the_bound_is_cut_and_says_so(service: Service, ground: Path) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground)
    (ground / "go").touch()
    execution = await admin.execute(
        "probe_tell", workspace, path="go", pauses=[0] * 18, size=500_000, wait=60, timeout=70
    )
    assert execution.state == DONE
    part = await admin.read_output(execution.execution_id)
    assert (part.cut, part.complete) == (True, True)
    assert BOUND - 2 < part.total_bytes < BOUND + 200
    assert len(part.output.text.encode()) in range(1024 * 1024 - 1, 1024 * 1024 + 1)
    end = await admin.read_output(execution.execution_id, offset_bytes=part.total_bytes - 65)
    assert end.output.text.endswith("the rest of it is not kept.]\n")
    watcher = Watcher(admin, execution.execution_id)
    await watcher.run()
    assert len(watcher.text) == part.total_bytes
    assert watcher.text.startswith(f"1 0 {'ö' * 500_000}\n1 1 ö".encode())


async def test_nobody_else_reads_what_a_tool_told(service: Service, ground: Path) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground)
    (ground / "secret.txt").write_text("canary\n")
    execution = await admin.execute("search_text", workspace, pattern="canary")
    assert await admin.whole_output(execution.execution_id) == "secret.txt:1:1: canary\n"
    for stranger in (service.caller(), admin.member()):
        with pytest.raises(NotFound):
            await stranger.read_output(execution.execution_id)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await Watcher(stranger, execution.execution_id).run()
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_places_that_are_none(service: Service, ground: Path) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground)
    (ground / "a.txt").write_text("ö\n")
    made = await admin.execute("search_text", workspace, pattern="ö")
    whole = "a.txt:1:1: ö\n"
    inside = whole.encode().index("ö".encode()) + 1
    with pytest.raises(InvalidArgument) as refused:
        await admin.read_output(made.execution_id, offset_bytes=inside)
    assert set(refused.value.fields) == {"offset_bytes"}
    for beyond in (len(whole.encode()), 10_000, 2**63 - 1):
        part = await admin.read_output(made.execution_id, offset_bytes=beyond)
        assert (part.output.text, part.next_offset_bytes) == ("", beyond)
        assert part.total_bytes == len(whole.encode())
    asked = await admin.execute("fs_info", workspace, path="a.txt")
    assert await admin.whole_output(asked.execution_id) == ""


async def test_what_the_model_is_not_shown_is_in_the_execution(
    service: Service, ground: Path
) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground)
    count = 250
    (ground / "many.py").write_text("".join(f"import m{n}\n" for n in range(count)))
    calls: dict[str, tuple[dict[str, Any], str, int]] = {
        "search_text": ({"pattern": "import", "limit": 10}, "many.py:{}:1: import m", count),
        "analysis_lint": ({"rules": ["F"], "limit": 10}, "F401 `m{}` imported but unused", count),
    }
    for tool, (arguments, line, number) in calls.items():
        execution = await admin.execute(tool, workspace, **arguments)
        assert "The output of the execution has all of them." in output_of(execution)["message"]
        lines = (await admin.whole_output(execution.execution_id)).splitlines()
        assert len(lines) == number
        assert sum(line.format(77) in one for one in lines) >= 1
    tree = await admin.execute("fs_tree", workspace, limit=1)
    assert await admin.whole_output(tree.execution_id) == "many.py\n"
    large = await admin.execute("probe_large", characters=100_000)
    assert "whole" in output_of(large)["cut"]["message"]
    assert f'"text": "{"x" * 100_000}"' in await admin.whole_output(large.execution_id)


async def test_small_output_costs_no_transaction_of_its_own_and_goes_with_its_execution(
    service: Service, ground: Path, database: TestDatabase
) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground)
    execution = await admin.execute("search_files", workspace, pattern="*")
    (ground / "go").touch()
    quick = await admin.execute("probe_tell", workspace, path="go", pauses=[0], size=1)
    connection = await asyncpg.connect(database.admin)
    try:
        same = await connection.fetchval(
            "select o.xmin = e.xmin from skills.outputs o join skills.executions e"
            " on e.id = o.execution_id where e.id = $1",
            quick.execution_id,
        )
        assert same, "it was written with the end"
        await connection.execute("update skills.executions set end_time = now() - interval '91 d'")
        await connection.execute("update skills.work set due_at = now() where kind = 'purge'")
        count = partial(connection.fetchval, "select count(*) from skills.executions")

        async def purged() -> bool:
            return bool(await count() == 0)

        await eventually(purged, "it is gone")
        assert await connection.fetchval("select count(*) from skills.outputs") == 0
    finally:
        await connection.close()
    with pytest.raises(NotFound):
        await admin.read_output(execution.execution_id)
