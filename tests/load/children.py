"""Processes of a benchmark: bare servers and other peers, ended with it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.load.report import ROOT

_START_SECONDS = 60.0
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Child:
    """A process that said in one line of JSON how it can be reached."""

    pid: int
    told: Mapping[str, Any]

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.told['port']}"


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[Child]:
    """Run a kind of `tests.load.servers`; it ends when its standard input does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.load.servers", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{arguments} ended before it served")
        yield Child(process.pid, json.loads(line))
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process of ours: politely, then not."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _END_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
