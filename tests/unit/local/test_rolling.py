"""A rolling restart ends one replica of each service at a time, and waits for its return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gathering_local.home import Home
from gathering_local.layout import SERVICES, lay_out, service_of
from gathering_local.parts import CommandPart
from gathering_local.rolling import RestartError, restart
from gathering_local.starting import all_ready
from gathering_local.supervisor import Stage, Supervisor, read_status

SERVES = "trap 'echo end $NAME; exit 0' TERM; echo begin $NAME; sleep 600 & wait"


async def there() -> bool:
    """Probe of a part that serves as soon as it runs."""
    return True


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return an empty home."""
    return Home(tmp_path / "home")


@asynccontextmanager
async def running(home: Home, *names: str) -> AsyncIterator[None]:
    """Run parts that write to one log."""
    log = home.logs / "all.log"
    command = ["sh", "-c", SERVES]
    parts = [CommandPart(name, f"{name}:1", command, {"NAME": name}, log, there) for name in names]
    stop = asyncio.Event()
    task = asyncio.create_task(Supervisor(home, "http://127.0.0.1:1", [Stage(parts)]).run(stop))
    try:
        await until_begun(home, len(names))
        yield
    finally:
        stop.set()
        await task


async def until_begun(home: Home, count: int) -> None:
    """Wait until so many processes have begun and all are ready."""
    end = time.monotonic() + 20.0
    while True:
        status = read_status(home)
        begun = [line for line in lines(home) if line.startswith("begin")]
        if status and all_ready(status) and len(begun) == count:
            return
        assert time.monotonic() < end, lines(home)
        await asyncio.sleep(0.01)


def lines(home: Home) -> list[str]:
    """Return what the parts have written."""
    log = home.logs / "all.log"
    return log.read_text().splitlines() if log.exists() else []


async def rolled(home: Home, what: str = "") -> list[str]:
    """Restart and return what was said."""
    said: list[str] = []
    await restart(home, what, 20.0, said.append, settle=0.0)
    return said


async def test_second_replicas_are_ended_after_the_first_are_back(home: Home) -> None:
    async with running(home, "agent", "agent-2", "gateway", "gateway-2", "edge"):
        await rolled(home)
        await until_begun(home, 5 + 4)
        ended = [line for line in lines(home) if line.startswith("end")]
    assert set(ended[:2]) == {"end agent", "end gateway"}
    assert set(ended[2:4]) == {"end agent-2", "end gateway-2"}
    told = lines(home)
    assert told.index("end agent-2") > len(told) - 1 - told[::-1].index("begin agent")


async def test_one_service_or_part_is_restarted_alone(home: Home) -> None:
    async with running(home, "agent", "agent-2", "gateway", "edge"):
        await rolled(home, "agent")
        await until_begun(home, 4 + 2)
        assert "end gateway" not in lines(home)
        await rolled(home, "agent-2")
        await rolled(home, "edge")
        await until_begun(home, 6 + 2)
        assert [line for line in lines(home) if line.startswith("end")].count("end agent-2") == 2


async def test_part_that_is_not_there_is_refused(home: Home) -> None:
    async with running(home, "agent", "edge"):
        with pytest.raises(RestartError, match="no part nothing; there is: agent, edge"):
            await rolled(home, "nothing")


async def test_mesh_that_does_not_run_cannot_be_restarted(home: Home) -> None:
    with pytest.raises(RestartError, match="does not run"):
        await rolled(home)


def test_layout_gives_each_replica_ports_of_its_own() -> None:
    layout = lay_out(8080, 3)
    ports = [layout.postgres, layout.redis, *(each.port for each in layout.replicas)]
    ports += [each.http_port for each in layout.replicas]
    assert len(set(ports)) == len(ports) == 2 + 2 * 3 * len(SERVICES)
    assert [each.name for each in layout.of("agent")] == ["agent", "agent-2", "agent-3"]
    assert layout.addresses("agent") == ",".join(each.address for each in layout.of("agent"))


@pytest.mark.parametrize(
    ("part", "service"),
    [("agent", "agent"), ("agent-2", "agent"), ("edge", ""), ("agent-x", ""), ("redis", "")],
)
def test_part_is_known_as_a_replica_by_its_name(part: str, service: str) -> None:
    assert service_of(part) == service
