"""Keeps the parts of a local mesh running until it is told to stop.

Parts start in stages; a part that ends is started again, later each time it fails soon. The
status file says at any time how each part is. A supervisor that was killed leaves its parts
behind; the next one ends them by what the status file says, before it starts its own.
"""

import asyncio
import fcntl
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Literal

from gathering_local.home import Home, write_json
from gathering_local.parts import POSTGRES, Part, PartError
from gathering_local.processes import ProcessId

State = Literal["waiting", "starting", "ready", "restarting", "stopped"]
ALREADY_RUNNING = 3  # Exit status of a supervisor that finds its home held by another.
_FIRST_DELAY = 0.2
_LONGEST_DELAY = 10.0
_STEADY_SECONDS = 30.0  # A part that ran so long is started again at once.
_LEFTOVER_GRACE = 5.0


class AlreadyRunning(Exception):
    """Another supervisor holds this home."""


@dataclass
class PartStatus:
    """How a part is."""

    name: str
    state: State = "waiting"
    address: str = ""
    pid: int = 0
    started: int = 0
    restart_count: int = 0
    message: str = ""
    needed: bool = True


@dataclass
class Status:
    """How the mesh is, as `gathering status` shows it."""

    supervisor: ProcessId
    url: str
    ready: bool = False
    message: str = ""
    parts: list[PartStatus] = field(default_factory=list)


def read_status(home: Home) -> Status | None:
    """Return what the last supervisor wrote, None if there was none."""
    try:
        content = json.loads(home.status_file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return Status(
        ProcessId(**content["supervisor"]),
        content["url"],
        content["ready"],
        content["message"],
        [PartStatus(**part) for part in content["parts"]],
    )


def hold(home: Home) -> int:
    """Take the home for this process until it ends; return the lock's descriptor.

    Raises:
        AlreadyRunning: a living supervisor holds it.

    """
    descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning from None
    return descriptor


async def end_leftovers(home: Home) -> list[str]:
    """End the parts that a killed supervisor left; return their names. Call it with the lock."""
    status = read_status(home)
    if status is None:
        return []
    left = [(part.name, ProcessId(part.pid, part.started)) for part in reversed(status.parts)]
    living = [(name, process) for name, process in left if process.alive()]
    # At once: each may take its whole grace, and people wait for `up`.
    await asyncio.gather(
        *(process.end(_LEFTOVER_GRACE, politely(name)) for name, process in living)
    )
    return [name for name, _ in living]


def politely(name: str) -> signal.Signals:
    """Return what asks a part to end: PostgreSQL waits at SIGTERM until its clients have left."""
    return signal.SIGINT if name == POSTGRES else signal.SIGTERM


@dataclass(frozen=True)
class Stage:
    """Parts that start together, once all before are ready and `prepare` has returned."""

    parts: Sequence[Part]
    prepare: Callable[[], Awaitable[None]] | None = None


class Supervisor:
    """Runs stages of parts."""

    def __init__(self, home: Home, url: str, stages: Sequence[Stage]) -> None:
        """Describe what is to run; `run` runs it."""
        this = ProcessId.of(os.getpid())
        if this is None:
            raise RuntimeError("this system has no /proc")
        self._home = home
        self._stages = stages
        self._status = Status(this, url)
        self._by_name = {}
        for stage in stages:
            for part in stage.parts:
                self._by_name[part.name] = PartStatus(part.name, needed=part.needed)
        self._status.parts = list(self._by_name.values())
        self._ready = {name: asyncio.Event() for name in self._by_name}

    async def run(self, stop: asyncio.Event) -> None:
        """Start all, keep all running until `stop` is set, stop all in reverse."""
        self._write()
        keepers: list[asyncio.Task[None]] = []
        starter = asyncio.create_task(self._start(keepers))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starter, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starter.done():
                starter.result()
                await stop.wait()
        finally:
            stopped.cancel()
            await self._stop([starter, *keepers])

    async def _start(self, keepers: list[asyncio.Task[None]]) -> None:
        for stage in self._stages:
            if stage.prepare:
                await stage.prepare()
            keepers += [asyncio.create_task(self._keep(part)) for part in stage.parts]
            for part in stage.parts:
                if part.needed:
                    await self._ready[part.name].wait()
        self._status.ready = True
        self._write()

    async def _keep(self, part: Part) -> None:
        status = self._by_name[part.name]
        delay = _FIRST_DELAY
        while True:
            begun = time.monotonic()
            status.state = "restarting" if status.restart_count else "starting"
            try:
                await part.start()
                self._note(part)
                await part.ready()
                status.state = "ready"
                self._ready[part.name].set()
                self._note(part)
                status.message = f"ended with status {await part.wait()}"
            except (PartError, OSError, TimeoutError) as error:
                status.message = str(error) or type(error).__name__
                await part.stop()
            status.restart_count += 1
            status.state = "restarting"
            self._write()
            delay = _FIRST_DELAY if time.monotonic() - begun > _STEADY_SECONDS else delay
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    def _note(self, part: Part) -> None:
        status = self._by_name[part.name]
        process = ProcessId.of(part.pid) if part.pid else None
        status.address = part.address
        status.pid, status.started = (process.pid, process.started) if process else (0, 0)
        self._write()

    async def _stop(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._status.ready = False
        for stage in reversed(self._stages):
            await asyncio.gather(*(part.stop() for part in stage.parts))
            for part in stage.parts:
                self._by_name[part.name].state = "stopped"
                self._by_name[part.name].pid = 0
            self._write()

    def _write(self) -> None:
        write_json(self._home.status_file, asdict(self._status))

    def fail(self, message: str) -> None:
        """Say in the status why the mesh cannot run."""
        with suppress(OSError):
            self._status.message = message
            self._write()
