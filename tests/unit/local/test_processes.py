"""Processes are told apart from others that later got the same id, and ended politely first."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gathering_local.processes import ProcessId

_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)"
)
_POLITE = "import time; print('up', flush=True); time.sleep(600)"


@asynccontextmanager
async def child(code: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run code in a process of its own, which has said something when this returns."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_this_process_is_alive_and_another_of_its_id_is_not() -> None:
    this = ProcessId.of(os.getpid())
    assert this is not None
    assert this.alive()
    assert not ProcessId(this.pid, this.started + 1).alive()


async def test_ended_process_is_not_found() -> None:
    async with child(_POLITE) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        assert found.alive()
        process.kill()
        await process.wait()
        assert not found.alive()
        assert ProcessId.of(process.pid) is None


async def test_process_is_asked_to_end() -> None:
    async with child(_POLITE) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        await found.end(10.0)
        assert await process.wait() == -signal.SIGTERM


async def test_process_that_does_not_listen_is_killed() -> None:
    async with child(_STUBBORN) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        await found.end(0.1)
        assert await process.wait() == -signal.SIGKILL


async def test_another_process_of_the_same_id_is_left_alone() -> None:
    async with child(_POLITE) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        await ProcessId(found.pid, found.started - 1).end(1.0)
        assert found.alive()
