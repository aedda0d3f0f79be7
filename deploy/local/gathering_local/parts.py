"""The parts of a local mesh: processes that are started, probed, watched and stopped alike."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gathering_local.postgres import EmbeddedPostgres, PostgresError

POSTGRES = "postgres"
_PROBE_SECONDS = 0.05
_LARGEST_LOG = 10 * 1024 * 1024

Probe = Callable[[], Awaitable[bool]]


class PartError(Exception):
    """A part did not become ready."""


class Part(Protocol):
    """Something that runs. `start` may be called again after its end."""

    @property
    def name(self) -> str:
        """The name by which people know it."""

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def needed(self) -> bool:
        """Whether the mesh is only ready with it."""

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""

    async def start(self) -> None:
        """Start it."""

    async def ready(self) -> None:
        """Return when it serves. PartError when it ended before."""

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""

    async def stop(self) -> None:
        """End it: politely, then not."""


@dataclass
class CommandPart:
    """A command in a session of its own, with its output in a log file."""

    name: str
    address: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    probe: Probe
    grace: float = 15.0
    needed: bool = True
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        running = self._process and self._process.returncode is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Start it."""
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env={**os.environ, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to a terminal's whole group; the supervisor ends its parts in order.
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Return when the probe says so. PartError when the process ended before."""
        while not await self.probe():
            if self.pid is None:
                raise PartError(f"{self.name} ended while it started; see {self.log}")
            await asyncio.sleep(_PROBE_SECONDS)

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL to its whole group after the grace."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.grace)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@dataclass
class PostgresPart:
    """The embedded PostgreSQL as a part."""

    server: EmbeddedPostgres
    name: str = POSTGRES
    needed: bool = True

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server.port}"

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self.server.pid

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        try:
            await self.server.start()
        except PostgresError as error:
            raise PartError(str(error)) from error

    async def ready(self) -> None:
        """Return at once: `start` has waited."""

    async def wait(self) -> int:
        """Wait for its end and return its exit status."""
        return await self.server.wait()

    async def stop(self) -> None:
        """End it; what was committed is on disk."""
        await self.server.stop()
