"""Starts a local mesh in the background, waits until it is ready, and stops it."""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

from gathering_local import doctor as checks
from gathering_local.home import Home
from gathering_local.logs import last_words
from gathering_local.processes import ProcessId
from gathering_local.supervisor import (
    ALREADY_RUNNING,
    AlreadyRunning,
    PartStatus,
    Status,
    end_leftovers,
    hold,
    read_status,
)

_console = Console(soft_wrap=True)
_errors = Console(stderr=True, soft_wrap=True)
_HINT_AFTER = 3  # restarts of a part while the mesh starts
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Wanted:
    """What is to be started."""

    port: int
    replicas: int
    redis: bool = True


def running(home: Home) -> Status | None:
    """Return the status of the mesh that runs from this home, None if none does."""
    found = read_status(home)
    return found if found and found.supervisor.alive() else None


def start(home: Home, wanted: Wanted) -> "subprocess.Popen[bytes]":
    """Start the supervisor in the background; a port that somebody else has ends the command."""
    if not _leftovers(home):  # A killed supervisor's edge may hold the port; it is ended first.
        _free_or_exit(wanted.port)
        home.status_file.unlink(missing_ok=True)
    options = ["--home", str(home.folder), "--port", str(wanted.port)]
    options += ["--replicas", str(wanted.replicas)] + ["--no-redis"] * (not wanted.redis)
    with (home.logs / "supervisor.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "gathering_local", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def wait_ready(
    home: Home, started: "subprocess.Popen[bytes] | None", timeout: float, *, quiet: bool
) -> Status:
    """Return the status of a mesh that is ready; one that does not get there ends the command."""
    deadline = time.monotonic() + timeout
    told: set[str] = set()
    begun = time.monotonic()
    while time.monotonic() < deadline:
        found = running(home)
        if found and not quiet:
            _tell(found, told, begun)
        if found and all_ready(found):
            return found
        if found and (bad := _hopeless(found)):
            _give_up(
                home, f"{bad.name} does not start: {bad.message}", home.logs / f"{bad.name}.log"
            )
        if started is not None and started.poll() == ALREADY_RUNNING:
            started = None  # Another `up` was faster; what it starts is what we wait for.
        if started is not None and started.poll() is not None:
            last = read_status(home)
            reason = last.message if last else "see the log"
            _give_up(home, f"the supervisor ended: {reason}", home.logs / "supervisor.log")
        time.sleep(_POLL_SECONDS)
    _give_up(home, f"not ready after {timeout:.0f} s", home.logs / "supervisor.log")
    raise AssertionError


def stop(home: Home, timeout: float) -> list[str] | None:
    """Stop the mesh; return what else was left of one, None if there was none."""
    status = running(home)
    if status:
        asyncio.run(status.supervisor.end(timeout))
    left = asyncio.run(_end_leftovers(home))
    return left if left or status else None


def all_ready(status: Status) -> bool:
    """Tell whether all that is needed serves."""
    return status.ready and all(part.state == "ready" for part in status.parts if part.needed)


def _free_or_exit(port: int) -> None:
    finding = checks.port_is_free(port)
    if not finding.good:
        _errors.print(f"{finding.finding}. {finding.remedy}", style="red")
        raise typer.Exit(1)


def _leftovers(home: Home) -> bool:
    found = read_status(home)
    parts = found.parts if found else ()
    return any(ProcessId(part.pid, part.started).alive() for part in parts)


def _tell(status: Status, told: set[str], begun: float) -> None:
    for part in status.parts:
        if part.state == "ready" and part.name not in told:
            told.add(part.name)
            _console.print(f"  {part.name:<13} ready after {time.monotonic() - begun:4.1f} s")


def _hopeless(status: Status) -> PartStatus | None:
    bad = (part for part in status.parts if part.needed and part.restart_count >= _HINT_AFTER)
    return None if status.ready else next(bad, None)


def _give_up(home: Home, message: str, log: Path) -> None:
    found = running(home)
    if found:
        asyncio.run(found.supervisor.end(30.0))
    _errors.print(f"The mesh does not start: {escape(message)}", style="red")
    if log.exists():
        _errors.print(escape("\n".join(last_words(log))), highlight=False)
    _errors.print(f"The whole log: {log}; `gathering doctor` looks for the cause.")
    raise typer.Exit(1)


async def _end_leftovers(home: Home) -> list[str]:
    try:
        held = hold(home)
    except AlreadyRunning:
        return []
    try:
        return await end_leftovers(home)
    finally:
        os.close(held)  # or a supervisor that this command starts next finds it taken
