"""Kill -9 in the middle of executions: what may run again does, what may not never does."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gathering.skills.v1 import execution_pb2
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from tests.integration.skills.harness import (
    DONE,
    FAILED,
    UNKNOWN,
    Caller,
    Issuer,
)
from tests.integration.skills.process import Replica, replica, start
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


def lines(path: Path) -> list[str]:
    """Return the lines of a file, none if there is no file."""
    return path.read_text().splitlines() if path.exists() else []


def an_admin(found: Replica, issuer: Issuer) -> Caller:
    """Return an administrator of a new tenant."""
    return Caller(found.channel, issuer, new_id("ten"), new_id("usr"))


async def test_each_effect_class_after_kill_in_mid_run(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with replica(database, issuer, tmp_path, (str(roots),)) as first:
        admin = an_admin(first, issuer)
        workspace = await admin.workspace(ground)
        started = {
            "pure": await admin.execute(
                "probe_slow", workspace, request_id="pure", path="pure", seconds=2, wait=0
            ),
            "keyed": await admin.execute(
                "probe_keyed", workspace, request_id="keyed", path="keyed", seconds=2, wait=0
            ),
            "once": await admin.execute(
                "probe_once", workspace, request_id="once", path="once", after=2, wait=0
            ),
            "before": await admin.execute(
                "probe_once", workspace, request_id="before", path="before", before=2, wait=0
            ),
        }

        async def all_begun() -> bool:
            names = ("pure", "keyed", "once", "before.begun")
            return all(lines(ground / name) for name in names)

        await eventually(all_begun, "all tools run")
        await first.kill()
    async with replica(database, issuer, tmp_path, (str(roots),)) as second:
        admin = second.as_seen_from(admin)
        ended = {name: await admin.ended(e.execution_id) for name, e in started.items()}
        repeated = await admin.execute(
            "probe_once", workspace, request_id="once", path="once", after=2
        )
    assert ended["pure"].state == ended["keyed"].state == DONE
    assert ended["pure"].attempt_count == ended["keyed"].attempt_count == 2
    # The peer got the message twice, under one id: it can drop the second.
    assert set(lines(ground / "keyed")) == {started["keyed"].execution_id}
    assert ended["once"].state == ended["before"].state == UNKNOWN
    assert lines(ground / "once") == [started["once"].execution_id]
    assert lines(ground / "before") == []
    assert repeated.execution_id == started["once"].execution_id
    assert repeated.state == UNKNOWN


async def test_tool_that_takes_its_process_down_is_given_up(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    workspace, caller, execution = "", None, None
    for _ in range(8):
        async with replica(database, issuer, tmp_path, (str(roots),), lease_seconds=1.5) as found:
            if caller is None:
                caller = an_admin(found, issuer)
                workspace = await caller.workspace(ground)
                with suppress(DomainError):
                    await caller.execute("probe_fatal", workspace, request_id="f", path="fatal")
            else:
                caller = found.as_seen_from(caller)
                with suppress(DomainError):
                    execution = await caller.execute(
                        "probe_fatal", workspace, request_id="f", path="fatal"
                    )
                    break
    assert execution is not None
    assert (execution.state, execution.error_reason) == (FAILED, "TOOL_FAILED")
    assert lines(ground / "fatal") == ["1", "2", "3"]


async def test_frozen_process_does_not_come_back_over_newer_work(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    async with replica(database, issuer, tmp_path, (str(roots),)) as frozen:
        admin = an_admin(frozen, issuer)
        workspace = await admin.workspace(ground)
        slow = await admin.execute(
            "probe_write", workspace, path="f", content="old", before=1, wait=0
        )
        await eventually(partial(said, ground / "attempts", ["1"]), "the first attempt runs")
        frozen.process.send_signal(signal.SIGSTOP)
        async with replica(database, issuer, tmp_path, (str(roots),)) as second:
            other = second.as_seen_from(admin)
            ended = await other.ended(slow.execution_id)
            assert (ended.state, ended.attempt_count) == (DONE, 2)
            await other.execute("fs_write", workspace, path="f", content="new")
            frozen.process.send_signal(signal.SIGCONT)
            again = await admin.execute("fs_write", workspace, path="g", content="awake")
            assert again.state == DONE
            tree = await other.output("fs_list", workspace)
    assert (ground / "f").read_text() == "new"
    assert {entry["name"] for entry in tree["entries"]} == {"attempts", "f", "g"}
    assert lines(ground / "attempts") == ["1", "2"]


async def said(path: Path, wanted: list[str]) -> bool:
    """Tell whether a file holds these lines."""
    return lines(path) == wanted


@dataclass
class Client:
    """Repeats a call under its name until it is answered with an end."""

    caller: Caller
    workspace: str
    replicas: list[Replica]
    ended: dict[str, execution_pb2.Execution] = field(default_factory=dict)

    async def insist(self, name: str, kind: str) -> None:
        """Call the newest replica until it answers."""
        while name not in self.ended:
            caller = self.replicas[-1].as_seen_from(self.caller)
            with suppress(DomainError):
                execution = await self._call(caller, name, kind)
                if execution.HasField("end_time"):
                    self.ended[name] = execution
            await asyncio.sleep(0.05)

    def _call(self, caller: Caller, name: str, kind: str) -> Any:
        arguments: dict[str, Any] = {"path": name, **ARGUMENTS[kind]}
        return caller.execute(kind, self.workspace, request_id=name, **arguments)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "fs_write": {"content": "what is written"},
    "probe_once": {"before": 0.1, "after": 0.2},
    "fs_mkdir": {},
    "probe_slow": {"seconds": 0.3},
}


async def test_kills_at_random_leave_one_end_for_each_request(
    database: TestDatabase, issuer: Issuer, tmp_path: Path, roots: Path, ground: Path
) -> None:
    chance = random.Random(7)  # noqa: S311 - not for secrets
    wanted = {f"w{n}": list(ARGUMENTS)[n % len(ARGUMENTS)] for n in range(48)}

    async def started() -> Replica:
        return await start(database, issuer, tmp_path, (str(roots),), concurrent_executions=8)

    replicas = [await started()]
    caller = an_admin(replicas[0], issuer)
    client = Client(caller, await caller.workspace(ground), replicas)
    tasks = [asyncio.create_task(client.insist(name, kind)) for name, kind in wanted.items()]
    for _ in range(2):
        await eventually(partial(grown, ground, len(seen(ground)) + 4), "more tools have run")
        await asyncio.sleep(chance.uniform(0.0, 0.2))  # a moment of its work, whichever
        await replicas[-1].kill()
        replicas.append(await started())
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    for found in replicas:
        await found.kill()
        await found.channel.close()
    check(client.ended, wanted, ground)


def seen(folder: Path) -> list[Path]:
    """Return what a folder holds."""
    return list(folder.iterdir())


async def grown(folder: Path, count: int) -> bool:
    """Tell whether a folder holds so many entries."""
    return len(seen(folder)) >= count


def check(ended: dict[str, execution_pb2.Execution], wanted: dict[str, str], ground: Path) -> None:
    """Compare what was told with what happened."""
    assert len({execution.execution_id for execution in ended.values()}) == len(wanted)
    for name, kind in wanted.items():
        execution = ended[name]
        if kind == "probe_once":
            told = {DONE: {1}, UNKNOWN: {0, 1}}[execution.state]
            assert len(lines(ground / name)) in told
        else:
            assert execution.state == DONE, execution
        if kind == "fs_write":
            assert (ground / name).read_text() == "what is written"
    assert not list(ground.glob(".gathering-*"))
    cut = [e for e in ended.values() if e.attempt_count > 1 or e.state == UNKNOWN]
    assert cut, "no kill hit a run: the test tried nothing"
