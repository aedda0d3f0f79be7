"""Wall clocks are set forward or back in the middle of a task: it is done, nothing twice.

Processes of the mesh read a wall clock that the test sets, by a library of ours that is built here;
their monotonic clocks run on, as those of a machine do whose clock is set, or that slept.
"""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gathering_client import Gathering, Login
from tests.chaos.mesh import INSIDE, ChaosMesh, chaos_mesh, connected
from tests.chaos.test_kills import disturbed
from tests.e2e.makers import Maker
from tests.e2e.mesh import SERVICES
from tests.e2e.tenants import logged_in

_COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(_COMPILER is None, reason="there is no C compiler"),
]
_HOUR = 3600
_LIFE = 300  # seconds of an access token
_SLACK = 15  # seconds between the login and the look at what it gave


class Clocks:
    """What the processes of a mesh take for the time, as seconds beside the true one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._library = folder / "clocks", folder / "clock.so"
        self._folder.mkdir()
        assert _COMPILER is not None
        source = INSIDE / "clock.c"
        command = [_COMPILER, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(source)]
        subprocess.run(command, check=True)
        for name in (*SERVICES, "others"):
            (self._folder / name).write_bytes(bytes(8))

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process read its clock."""
        return {"LD_PRELOAD": str(self._library), "TEST_WALL_CLOCKS": str(self._folder)}

    def step(self, seconds: int, *services: str) -> None:
        """Set the clocks of some services, or of all processes; they see it at once."""
        for name in services or (*SERVICES, "others"):
            with (self._folder / name).open("r+b") as file:
                file.write(struct.pack("q", seconds))


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Clocks:
    folder = tmp_path_factory.mktemp("clock")
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o711)  # PostgreSQL runs as another user when we are root.
    return Clocks(folder)


@pytest.fixture(scope="module")
def mesh(clocks: Clocks) -> Iterator[ChaosMesh]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clocks.environment.items():
            patch.setenv(name, value)
        with chaos_mesh(replicas=2) as running:
            yield running


@pytest.fixture
async def client(mesh: ChaosMesh, clocks: Clocks) -> AsyncIterator[Gathering]:
    clocks.step(0)
    async with connected(mesh) as connection:
        yield connection


async def nothing() -> None:
    """Disturb nothing."""


@pytest.mark.parametrize("seconds", [-20, 20, _HOUR])
async def test_task_of_the_demo_is_done_although_the_clock_was_set(
    seconds: int, mesh: ChaosMesh, client: Gathering, clocks: Clocks, tmp_path: Path
) -> None:
    async def step() -> None:
        clocks.step(seconds)
        await is_served(mesh, seconds)

    await disturbed(client, tmp_path / "at", step)
    await mesh.expect_quiet()
    clocks.step(0)
    await disturbed(client, tmp_path / "after", nothing)
    await mesh.expect_quiet()


async def test_clock_set_back_by_an_hour_delays_work_alone_until_it_is_right_again(
    mesh: ChaosMesh, client: Gathering, clocks: Clocks, tmp_path: Path
) -> None:
    """What is due at a time of the database is not due before it."""

    async def step() -> None:
        clocks.step(-_HOUR)
        await is_served(mesh, -_HOUR)
        await mesh.expect()
        clocks.step(0)

    await disturbed(client, tmp_path, step)
    await mesh.expect_quiet()


async def is_served(mesh: ChaosMesh, seconds: int) -> None:
    """Let somebody log in, and a service that knows no token yet take what others made."""
    await asyncio.to_thread(mesh.restart, "memory", "memory-2")
    tenant = await asyncio.to_thread(logged_in, mesh, *mesh.admin)
    told = tenant.held.expire_time.seconds - time.time()
    assert abs(told - seconds - _LIFE) < _SLACK, "the mesh did not see the step"
    async with Gathering(mesh.url, Login(*mesh.admin)) as connection:
        await Maker(connection, "").memory()


@pytest.mark.parametrize("service", SERVICES)
async def test_service_whose_clock_is_off_by_seconds_is_not_noticed(
    service: str, mesh: ChaosMesh, client: Gathering, clocks: Clocks, tmp_path: Path
) -> None:
    for seconds in (-4, 4):

        async def step(seconds: int = seconds) -> None:
            clocks.step(seconds, service)

        await disturbed(client, tmp_path / str(seconds), step)
        await mesh.expect_quiet()
