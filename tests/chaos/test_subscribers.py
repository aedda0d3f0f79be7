"""A thousand quiet subscribers and slow ones by each door: nobody loses, memory stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import structlog

from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1.auth_service_pb2_grpc import AuthServiceStub
from gathering_mesh.eventlog import EventLog
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.chaos.cuts.crowd import Crowd, Load, Quiet, Reader, Scene
from tests.chaos.cuts.doors import by_grpc, by_sse, by_websocket
from tests.e2e.mesh import LocalMesh
from tests.load.system import family, opened, running

DOORS = (by_grpc, by_sse, by_websocket)
SERVICES = ("memory", "skills", "agent")
QUIET, SLOW_OF_DOOR = 1_000, 3
LOAD = Load(events=800, bytes=8_000, rate=40)
TENTH = 0.1  # seconds: ten events a second
# What the slow ones do not read would fill more than 150 MiB of whoever kept it for each of them.
MOST_GROWTH = 96  # MiB
SETTINGS = {
    "GATHERING_RING_ENTRIES": "256",  # full soon, so that it does not look like growth
    "GATHERING_SERVER__STREAMS": "1200",  # for the fast and slow ones too
    "GATHERING_ACCESS_TOKEN_SECONDS": "3600",  # a stream ends with its token; no reader here renews
}
_log = structlog.get_logger()


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with running(SETTINGS) as (started, _):
        yield started


@asynccontextmanager
async def log_of(mesh: LocalMesh, service: str) -> AsyncIterator[Database]:
    """Open a service's database beside it, as another replica that only moves events."""
    told = mesh.environment_of(service)
    settings = DatabaseSettings(
        url=told["GATHERING_DATABASE_URL"], system_url=told["GATHERING_SYSTEM_DATABASE_URL"]
    )
    async with Database.open(settings, schema=service) as db:
        moving = asyncio.create_task(EventLog(db, service).run())
        try:
            yield db
        finally:
            moving.cancel()
            await asyncio.wait({moving})


@asynccontextmanager
async def scene_of(mesh: LocalMesh) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        channel = await enter(opened(f"127.0.0.1:{mesh.port}"))
        email, password = mesh.admin
        stub: AuthServiceStub = AuthServiceStub(channel)
        request = auth.LoginRequest(email=email, password=password)
        tokens: auth.Tokens = await stub.Login(request, timeout=60)  # type: ignore[misc]  # async
        logs = {name: await enter(log_of(mesh, name)) for name in SERVICES}
        yield Scene(mesh.port, tokens, channel, logs)


def resident(mesh: LocalMesh) -> dict[str, float]:
    """Return the MiB that gateway and edge hold."""
    return {name: _resident(mesh.process(name).pid) for name in ("gateway", "edge")}


def _resident(pid: int) -> float:
    kibibytes = 0
    for each in family(pid):
        lines = Path("/proc", str(each), "status").read_text().splitlines()
        kibibytes += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return round(kibibytes / 1024, 1)


@pytest.mark.timeout(900)
async def test_slow_and_a_thousand_quiet_subscribers_cost_bounded_memory_and_lose_nothing(
    mesh: LocalMesh,
) -> None:
    held: dict[str, dict[str, float]] = {"empty": resident(mesh)}
    slow = [Reader(door, TENTH) for door in DOORS for _ in range(SLOW_OF_DOOR)]
    crowd = Crowd([Reader(door) for door in DOORS], slow, Quiet(QUIET))

    def weigh(when: str) -> None:
        held[when] = resident(mesh)
        _log.info("subscribers", when=when, mib=held[when], slow=[each.count for each in slow])

    async with scene_of(mesh) as scene:
        await crowd.live(
            scene, LOAD, stands=lambda: weigh("standing"), behind=lambda: weigh("slow are behind")
        )
    weigh("all have all")
    for name, before in held["standing"].items():
        most = max(weighed[name] for weighed in held.values())
        assert most - before < MOST_GROWTH, (name, held)
