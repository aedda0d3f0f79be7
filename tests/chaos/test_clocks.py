"""The machine's clock is set forward or back in the middle of a task: it is done, nothing twice.

All processes of the mesh read a wall clock that the test sets; their monotonic clocks run on, as
those of a machine do. Needs Debian's package `libfaketime`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gathering_client import Gathering
from tests.chaos.mesh import ChaosMesh, chaos_mesh, connected
from tests.chaos.test_kills import disturbed

_FOUND = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not _FOUND, reason="Debian's package libfaketime is not installed"),
]
_HOUR = 3600


class Clock:
    """What the mesh takes for the time, as seconds beside the true one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process read this clock."""
        return {
            "LD_PRELOAD": str(_FOUND[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """Set it; all processes see the step at once."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)  # PostgreSQL runs as another user when we are root.
        fresh.rename(self._file)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    folder = tmp_path_factory.mktemp("clock")
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o711)
    return Clock(folder / "clock")


@pytest.fixture(scope="module")
def mesh(clock: Clock) -> Iterator[ChaosMesh]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in clock.environment.items():
            patch.setenv(name, value)
        with chaos_mesh(replicas=2) as running:
            yield running


@pytest.fixture
async def client(mesh: ChaosMesh, clock: Clock) -> AsyncIterator[Gathering]:
    clock.step(0)
    async with connected(mesh) as connection:
        yield connection


async def nothing() -> None:
    """Disturb nothing."""


@pytest.mark.parametrize("seconds", [-_HOUR, -20, 20, _HOUR])
async def test_task_of_the_demo_is_done_although_the_clock_was_set(
    seconds: int, mesh: ChaosMesh, client: Gathering, clock: Clock, tmp_path: Path
) -> None:
    async def step() -> None:
        clock.step(seconds)

    await disturbed(client, tmp_path, step)
    await mesh.expect_quiet()
    clock.step(0)
    await disturbed(client, tmp_path / "after", nothing)
    await mesh.expect_quiet()
