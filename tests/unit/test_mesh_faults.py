"""Fault points: off without their folder, armed one by one with it."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gathering_mesh import faults
from tests.chaos.arming import Faults

_ROOT = Path(__file__).parents[2]
_PASSES = (
    "import asyncio, sys\n"
    "from gathering_mesh import faults\n"
    "for _ in range(3):\n"
    "    asyncio.run(faults.point('log.moved'))\n"
    "    print('passed', flush=True)\n"
)


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faults:
    monkeypatch.setattr(faults, "_FOLDER", str(tmp_path))
    monkeypatch.setattr(faults, "_SERVICE", "memory")
    return Faults(tmp_path)


def passes(folder: Path | None) -> subprocess.CompletedProcess[str]:
    environment = Faults(folder).environment if folder else {}
    return subprocess.run(
        [sys.executable, "-c", _PASSES],
        env={"PYTHONPATH": str(_ROOT / "mesh"), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_process_that_knows_no_folder_passes_every_point() -> None:
    done = passes(None)
    assert (done.returncode, done.stdout.count("passed")) == (0, 3)


def test_process_dies_at_the_pass_that_was_asked_for_and_its_successor_does_not(
    tmp_path: Path,
) -> None:
    Faults(tmp_path).arm("log.moved", "kill", at=2)
    killed, successor = passes(tmp_path), passes(tmp_path)
    assert (killed.returncode, killed.stdout.count("passed")) == (-signal.SIGKILL, 1)
    assert (successor.returncode, successor.stdout.count("passed")) == (0, 3)
    assert Faults(tmp_path).was_hit("log.moved")


async def test_point_armed_to_fail_raises_once(armed: Faults) -> None:
    armed.arm("turn.step_stored", "raise")
    with pytest.raises(faults.Fault):
        await faults.point("turn.step_stored")
    await faults.point("turn.step_stored")


async def test_point_armed_for_a_service_lets_the_others_pass(armed: Faults) -> None:
    armed.arm("log.moved", "raise", service="agent")
    await faults.point("log.moved")
    armed.arm("log.moved", "raise", service="memory")
    with pytest.raises(faults.Fault):
        await faults.point("log.moved")
    assert not armed.was_hit("log.moved", "agent")


async def test_point_that_was_disarmed_lets_everybody_pass(armed: Faults) -> None:
    armed.arm("log.moved", "raise")
    armed.disarm()
    await faults.point("log.moved")


async def test_point_armed_to_delay_goes_on_later(
    armed: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_SECONDS", 0.05)
    armed.arm("log.moved", "delay")
    begun = time.monotonic()
    async with asyncio.timeout(10):
        await faults.point("log.moved")
    assert time.monotonic() - begun >= 0.05


def test_name_nobody_passes_cannot_be_armed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no point"):
        Faults(tmp_path).arm("log.movd", "kill")


def test_each_point_that_is_named_is_somewhere_in_the_code() -> None:
    called = re.compile(r'faults\.point\("([a-z_.]+)"\)')
    files = [*_ROOT.glob("mesh/**/*.py"), *_ROOT.glob("services/**/*.py")]
    assert {name for file in files for name in called.findall(file.read_text())} == faults.POINTS
