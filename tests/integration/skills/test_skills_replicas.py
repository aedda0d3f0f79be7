"""Several replicas: what one runs, another waits for, watches and cancels; leaving and outages."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gathering.events.v1 import event_pb2
from gathering_mesh.ids import new_id
from tests.integration.skills.harness import (
    CANCELLED,
    DONE,
    RUNNING,
    UNKNOWN,
    Caller,
    Issuer,
    Service,
    serving,
)
from tests.integration.skills.process import replica
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


def lines(path: Path) -> list[str]:
    """Return the lines of a file, none if there is no file."""
    return path.read_text().splitlines() if path.exists() else []


async def written(path: Path) -> bool:
    """Tell whether a file has a line."""
    return bool(lines(path))


async def test_one_replica_waits_watches_and_cancels_what_another_runs(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with serving(database, issuer, tmp_path, (str(roots),)) as one:
        here = one.caller()
        workspace = await here.workspace(ground)
        running = await here.execute("probe_slow", workspace, path="p", seconds=30, wait=0)
        twin: dict[str, Any] = {"request_id": "t", "path": "q", "seconds": 1.5}
        await eventually(lambda: written(ground / "p"), "it runs")
        first = await here.execute("probe_slow", workspace, wait=0, **twin)
        await eventually(lambda: written(ground / "q"), "it runs")
        async with serving(database, issuer, tmp_path, (str(roots),)) as two:
            there = Caller(two.channel, issuer, here.tenant, here.user)
            watched = asyncio.create_task(there.ended(first.execution_id))
            ended = await there.execute("probe_slow", workspace, **twin)
            assert (ended.execution_id, ended.state) == (first.execution_id, DONE)
            assert (await watched).state == DONE
            assert ended.attempt_count == 1
            assert lines(ground / "q") == [f"{first.execution_id} 1"]
            cancelled = await there.cancel(running.execution_id)
            assert cancelled.state == CANCELLED


async def test_sigterm_lets_short_tools_end_and_hands_long_ones_over(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with replica(database, issuer, tmp_path, (str(roots),)) as first:
        admin = Caller(first.channel, issuer, new_id("ten"), new_id("usr"))
        workspace = await admin.workspace(ground)
        calls: dict[str, dict[str, Any]] = {
            "short": {"tool": "probe_once", "path": "short", "after": 1.0},
            "long": {"tool": "probe_slow", "path": "long", "seconds": 12},
            "once": {"tool": "probe_once", "path": "once", "after": 15},
        }
        made = {
            name: await admin.execute(
                call["tool"], workspace, wait=0, **{k: v for k, v in call.items() if k != "tool"}
            )
            for name, call in calls.items()
        }
        for name in calls:
            await eventually(partial(written, ground / name), f"{name} runs")
        first.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.process.wait(), 30) == 0
    async with serving(database, issuer, tmp_path, (str(roots),)) as second:
        admin = Caller(second.channel, issuer, admin.tenant, admin.user)
        ended = {name: await admin.ended(e.execution_id) for name, e in made.items()}
    assert (ended["short"].state, ended["short"].attempt_count) == (DONE, 1)
    assert (ended["long"].state, ended["long"].attempt_count) == (DONE, 2)
    assert ended["once"].state == UNKNOWN
    assert len(lines(ground / "once")) == 1


async def test_end_is_written_after_an_outage_of_the_database(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with (
        Wire.to(database.server.port) as wire,
        serving(wire.seen(database), issuer, tmp_path, (str(roots),), lease_seconds=12) as service,
    ):
        admin = service.caller()
        workspace = await admin.workspace(ground)
        execution = await admin.execute(
            "probe_once", workspace, path="once", before=0.3, after=0.7, wait=0
        )
        await eventually(lambda: written(ground / "once.begun"), "it runs")
        wire.cut()
        await eventually(lambda: written(ground / "once"), "it had its effect")
        await asyncio.sleep(1.5)  # it ends in this time, and nobody can write it down
        await wire.mend()
        ended = await _ended(admin, execution.execution_id)
    assert (ended.state, ended.attempt_count) == (DONE, 1)
    assert len(lines(ground / "once")) == 1


class Wire:
    """The way to the database, which can be cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Wire]:
        """Open a way to a port."""
        wire = cls(port)
        await wire.mend()
        try:
            yield wire
        finally:
            wire.cut()

    def seen(self, database: TestDatabase) -> TestDatabase:
        """Return the database at the end of this way."""
        return replace(database, server=replace(database.server, port=self.port))

    async def mend(self) -> None:
        """Let connections through, at the same port as before."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break all connections and take no more."""
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        pair = {writer, there_writer}
        self._writers |= pair
        ways = (_flow(reader, there_writer), _flow(there_reader, writer))
        await asyncio.gather(*ways)
        self._writers -= pair


async def _flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _ended(admin: Caller, execution_id: str) -> Any:
    """Read until it has ended; the service may need a moment to find its database again."""
    found: list[Any] = []

    async def over() -> bool:
        try:
            found.append(await admin.get(execution_id))
        except Exception:  # whatever an outage brings
            return False
        return bool(found[-1].HasField("end_time"))

    await eventually(over, "it ended", 20)
    return found[-1]


async def test_events_tell_the_life_of_an_execution_and_no_content(
    service: Service, ground: Path, database: TestDatabase
) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground, display_name="Ground")
    agent = new_id("agt")
    grant = await admin.grant(agent, "filesystem", 1, 2)
    execution = await admin.through("agent").execute(
        "fs_write", workspace, agent=agent, request_id="e", path="f", content="not to be told"
    )
    connection = await asyncpg.connect(database.admin)
    try:

        async def logged() -> bool:
            count = await connection.fetchval(
                "select count(*) from skills.log where tenant_id = $1", admin.tenant
            )
            return bool(count == 5)

        await eventually(logged, "all events are in the log")
        rows = await connection.fetch("select event from skills.log order by position")
    finally:
        await connection.close()
    events = [event_pb2.Event.FromString(row["event"]) for row in rows]
    assert [event.type for event in events] == [
        "workspace_created",
        "grant_changed",
        "execution_requested",
        "execution_started",
        "execution_finished",
    ]
    created, changed, requested, started, finished = events
    assert created.workspace_created.name == "Ground"
    assert changed.grant_changed.grant_id == grant.grant_id
    assert requested.execution_requested.workspace_id == workspace
    assert started.execution_started.attempt == 1
    assert finished.execution_finished.state == "done"
    assert list(finished.execution_finished.artifact_hashes) == [execution.artifacts[0].sha256]
    for event in (requested, started, finished):
        assert list(event.audience.user_ids) == [admin.user]
        assert (event.cause.user_id, event.cause.actor) == (admin.user, "agent")
        assert event.cause.request_id == "e"
        assert event.trace_id == requested.trace_id
        assert agent in event.subject_ids
    assert not any(b"not to be told" in row["event"] for row in rows)


async def test_execution_of_a_tool_that_is_gone_fails(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, service: Service
) -> None:
    admin = service.caller()
    execution = await admin.execute("probe_large", characters=1)
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute(
            "update skills.executions set state = 'requested', tool = 'gone', output = null,"
            " end_time = null where id = $1",
            execution.execution_id,
        )
        await connection.execute(
            "insert into skills.work (tenant_id, kind, id, due_at)"
            " values ($1, 'execute', $2, now())",
            admin.tenant,
            execution.execution_id,
        )
    finally:
        await connection.close()
    ended = await admin.ended(execution.execution_id)
    assert ended.error_reason == "TOOL_NOT_FOUND"


async def test_old_executions_are_deleted_and_young_ones_kept(
    service: Service, ground: Path, database: TestDatabase
) -> None:
    admin = service.caller()
    workspace = await admin.workspace(ground)
    old = await admin.execute("fs_list", workspace, request_id="old")
    young = await admin.execute("fs_list", workspace)
    live = await admin.execute("probe_slow", workspace, path="p", seconds=60, wait=0)
    await eventually(lambda: written(ground / "p"), "it runs")
    connection = await asyncpg.connect(database.admin)
    try:
        await connection.execute(
            "update skills.executions set end_time = now() - interval '91 days' where id = $1",
            old.execution_id,
        )
        await connection.execute("update skills.work set due_at = now() where kind = 'purge'")

        async def purged() -> bool:
            left = await connection.fetchval("select count(*) from skills.executions")
            return bool(left == 2)

        await eventually(purged, "the old one is gone")
    finally:
        await connection.close()
    kept = [execution.execution_id for execution in (await admin.list()).executions]
    assert kept == [live.execution_id, young.execution_id]
    assert (await admin.get(live.execution_id)).state == RUNNING
    again = await admin.execute("fs_list", workspace, request_id="old")
    assert again.execution_id != old.execution_id
    await admin.cancel(live.execution_id)
