"""Replicas as processes: started, heard, stopped in the middle of anything."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.postgres import TestDatabase

ROOT = Path(__file__).parents[2]


class Replica:
    """A running process of `tests.support.replica` and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._heard = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self.lines: list[str] = []

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            if line.endswith(b"\n"):  # the last one may be cut
                self.lines.append(line.decode().strip())
                self._heard.set()

    async def says(self, beginning: str, seconds: float = 40.0) -> str:
        """Wait for a line that begins so and return it."""
        async with asyncio.timeout(seconds):
            while True:
                for line in self.lines:
                    if line.startswith(beginning):
                        return line
                self._heard.clear()
                await self._heard.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it and hear all that it said."""
        self.send(number)
        await self._process.wait()
        await self._reading

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, by itself or not."""
        return self._process.returncode is not None


async def start(role: str, probe: TestDatabase, **options: Any) -> Replica:
    """Start a replica."""
    told = {"url": probe.app("probe"), "system_url": probe.system("probe"), **options}
    return Replica(
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.replica",
            role,
            json.dumps(told),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
    )


@asynccontextmanager
async def replica(role: str, probe: TestDatabase, **options: Any) -> AsyncIterator[Replica]:
    """Start a replica and kill it at the end."""
    started = await start(role, probe, **options)
    try:
        yield started
    finally:
        await started.end()
