"""The supervisor starts parts in stages, starts again what ends, and stops all in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from gathering_local.home import Home, write_json
from gathering_local.parts import CommandPart, Part, PartError, PostgresPart
from gathering_local.postgres import EmbeddedPostgres, PostgresError
from gathering_local.processes import ProcessId
from gathering_local.starting import all_ready
from gathering_local.supervisor import (
    AlreadyRunning,
    PartStatus,
    Stage,
    Status,
    Supervisor,
    end_leftovers,
    hold,
    read_status,
)

URL = "http://127.0.0.1:1"


async def there() -> bool:
    """Probe of a part that serves as soon as it runs."""
    return True


async def never() -> bool:
    """Probe of a part that does not serve."""
    return False


def part(home: Home, name: str, script: str, log: Path | None = None) -> CommandPart:
    """Return a part that runs a shell script; it writes to the log of its name."""
    path = log or home.logs / f"{name}.log"
    return CommandPart(name, f"{name}:1", ["sh", "-c", script], {"NAME": name}, path, there, 5.0)


SERVES = "trap 'echo end $NAME; exit 0' TERM; echo begin $NAME; sleep 600 & wait"


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for what another task or process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come about"
        await asyncio.sleep(0.01)


def found(home: Home) -> Status:
    """Return what the status file says."""
    status = read_status(home)
    assert status is not None
    return status


@asynccontextmanager
async def supervised(home: Home, *stages: Stage) -> AsyncIterator[asyncio.Event]:
    """Run a supervisor until the body ends or sets the event."""
    stop = asyncio.Event()
    running = asyncio.create_task(Supervisor(home, URL, stages).run(stop))
    ready = asyncio.create_task(until(lambda: running.done() or found_ready(home)))
    try:
        await ready
        yield stop
    finally:
        stop.set()
        await running


def found_ready(home: Home) -> bool:
    """Tell whether all parts were ready at least once."""
    status = read_status(home)
    return bool(status and status.ready)


def lines(path: Path) -> list[str]:
    """Return the lines of a log."""
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return an empty home."""
    return Home(tmp_path / "home")


async def test_stages_begin_in_order_and_end_in_reverse(home: Home) -> None:
    log = home.logs / "all.log"
    prepared: list[list[str]] = []

    async def prepare() -> None:
        await until(lambda: len(lines(log)) == 1)
        prepared.append(lines(log))

    first = Stage([part(home, "one", SERVES, log)])
    second = Stage([part(home, "two", SERVES, log)], prepare)
    async with supervised(home, first, second):
        await until(lambda: len(lines(log)) == 2)
        status = found(home)
        assert [(each.name, each.state) for each in status.parts] == [
            ("one", "ready"),
            ("two", "ready"),
        ]
        assert all(ProcessId(each.pid, each.started).alive() for each in status.parts)
        processes = [ProcessId(each.pid, each.started) for each in status.parts]
    assert prepared == [["begin one"]]
    assert lines(log) == ["begin one", "begin two", "end two", "end one"]
    assert not any(process.alive() for process in processes)
    assert {each.state for each in found(home).parts} == {"stopped"}
    assert not found(home).ready


async def test_part_that_keeps_ending_is_started_again_later_each_time(home: Home) -> None:
    script = "date +%s.%N; exit 3"
    async with supervised(home, Stage([part(home, "bad", script)])):
        await until(lambda: len(lines(home.logs / "bad.log")) >= 4)
        status = found(home).parts[0]
    times = [float(line) for line in lines(home.logs / "bad.log")]
    pauses = [late - early for early, late in itertools.pairwise(times)]
    assert all(pause >= least for pause, least in zip(pauses[:3], (0.2, 0.4, 0.8), strict=True))
    assert status.restart_count >= 3
    assert status.message == "ended with status 3"


async def test_killed_part_comes_back_as_another_process(home: Home) -> None:
    async with supervised(home, Stage([part(home, "one", SERVES)])):
        before = found(home).parts[0]
        await ProcessId(before.pid, before.started).end(5.0)
        await until(lambda: found(home).parts[0].pid not in {0, before.pid})
        after = found(home).parts[0]
        assert after.restart_count == 1
        assert ProcessId(after.pid, after.started).alive()


async def test_part_that_fails_to_start_says_why_and_is_tried_again(home: Home) -> None:
    class Hesitant:
        """Fails once, with words."""

        name, address, needed, pid = "slow", "slow:1", True, None
        starts = 0

        async def start(self) -> None:
            self.starts += 1
            if self.starts == 1:
                raise PartError("not yet")

        async def ready(self) -> None:
            await asyncio.sleep(0)

        async def wait(self) -> int:
            await asyncio.Event().wait()
            return 0

        async def stop(self) -> None:
            await asyncio.sleep(0)

    hesitant: Part = Hesitant()
    async with supervised(home, Stage([hesitant])):
        status = found(home).parts[0]
        assert (status.state, status.restart_count, status.message) == ("ready", 1, "not yet")


async def test_part_that_is_not_needed_does_not_hold_up_the_others(home: Home) -> None:
    extra = part(home, "extra", "exit 1")
    extra.needed, extra.probe = False, never
    async with supervised(home, Stage([extra, part(home, "one", SERVES)])):
        await until(lambda: found(home).parts[0].restart_count > 1)
        assert all_ready(found(home))
        assert [each.state for each in found(home).parts if each.needed] == ["ready"]


async def test_database_server_that_does_not_start_is_tried_again(home: Home) -> None:
    class Broken(EmbeddedPostgres):
        """Cannot be started."""

        async def start(self, timeout: float = 30.0) -> None:
            raise PostgresError("no room on the disk")

    stop = asyncio.Event()
    stages = [Stage([PostgresPart(Broken(home.postgres))])]
    running = asyncio.create_task(Supervisor(home, URL, stages).run(stop))
    await until(lambda: home.status_file.exists() and found(home).parts[0].restart_count >= 2)
    assert found(home).parts[0].message == "no room on the disk"
    stop.set()
    await running


async def test_preparation_that_fails_ends_the_run_and_what_was_started(home: Home) -> None:
    async def prepare() -> None:
        raise RuntimeError("no database")

    stages = [Stage([part(home, "one", SERVES)]), Stage([], prepare)]
    with pytest.raises(RuntimeError, match="no database"):
        await Supervisor(home, URL, stages).run(asyncio.Event())
    assert found(home).parts[0].state == "stopped"


async def test_stop_while_starting_ends_what_was_started(home: Home) -> None:
    async def never() -> bool:
        return False

    hanging = CommandPart(
        "hangs", "x:1", ["sh", "-c", SERVES], {}, home.logs / "hangs.log", never, 5.0
    )
    stop = asyncio.Event()
    running = asyncio.create_task(Supervisor(home, URL, [Stage([hanging])]).run(stop))
    await until(lambda: hanging.pid is not None and bool(lines(home.logs / "hangs.log")))
    process = ProcessId.of(hanging.pid or 0)
    assert process is not None
    stop.set()
    await running
    assert not process.alive()


async def test_part_that_ends_before_it_serves_is_an_error(home: Home) -> None:
    async def never() -> bool:
        return False

    brief = CommandPart("brief", "x:1", ["true"], {}, home.logs / "brief.log", never)
    await brief.start()
    with pytest.raises(PartError, match="brief ended while it started"):
        await brief.ready()


async def test_part_that_ignores_its_end_is_killed_with_its_children(
    home: Home, tmp_path: Path
) -> None:
    script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 600' & wait; sleep 600"
    stubborn = CommandPart(
        "stubborn", "x:1", ["sh", "-c", script], {}, home.logs / "s.log", there, 0.2
    )
    await stubborn.start()
    await until(lambda: bool(lines(home.logs / "s.log")))
    child = ProcessId.of(int(lines(home.logs / "s.log")[0]))
    assert child is not None
    await stubborn.stop()
    await until(lambda: not child.alive())
    assert stubborn.pid is None


async def test_long_log_is_set_aside_at_the_start(home: Home) -> None:
    log = home.logs / "one.log"
    log.write_bytes(b"x" * (10 * 1024 * 1024 + 1))
    short = part(home, "one", "echo new")
    await short.start()
    assert await short.wait() == 0
    assert log.read_text() == "new\n"
    assert log.with_suffix(".log.1").stat().st_size > 10 * 1024 * 1024


def test_home_is_held_by_one_supervisor(home: Home) -> None:
    descriptor = hold(home)
    try:
        with pytest.raises(AlreadyRunning):
            hold(home)
    finally:
        os.close(descriptor)
    os.close(hold(home))


async def test_leftovers_of_a_killed_supervisor_are_ended_and_no_others(home: Home) -> None:
    left, other = part(home, "left", SERVES), part(home, "other", SERVES)
    async with contextlib.AsyncExitStack() as stack:
        for each in (left, other):
            await each.start()
            stack.push_async_callback(each.stop)
        await until(lambda: bool(lines(left.log)) and bool(lines(other.log)))
        _write_status(home, [left, other], forged="other")
        assert await end_leftovers(home) == ["left"]
        assert await left.wait() == 0
        assert lines(left.log)[-1] == "end left"
        assert other.pid is not None


def _write_status(home: Home, parts: Sequence[CommandPart], forged: str) -> None:
    """Write what a supervisor would; the process of `forged` began at another time."""
    statuses = []
    for each in parts:
        process = ProcessId.of(each.pid or 0)
        assert process is not None
        started = process.started - (each.name == forged)
        statuses.append(PartStatus(each.name, "ready", each.address, process.pid, started))
    write_json(home.status_file, asdict(Status(ProcessId(1, -1), URL, True, "", statuses)))


def test_status_file_that_is_no_status_is_none(home: Home) -> None:
    assert read_status(home) is None
    home.status_file.write_text("{")
    assert read_status(home) is None
