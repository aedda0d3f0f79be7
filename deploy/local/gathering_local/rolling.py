"""Restarts the services of a running mesh, one replica of each at a time.

The supervisor starts again what ends; so it is enough to tell a replica to end and to wait until
it is back. It says that it is not ready, ends what it has begun, and edge and peers use the others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from gathering_local.home import Home
from gathering_local.layout import service_of
from gathering_local.processes import ProcessId
from gathering_local.starting import running
from gathering_local.supervisor import PartStatus, Status, politely
from gathering_local.topology import SETTLE_SECONDS

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 20.0  # A service drains within 12.

Say = Callable[[str], None]


class RestartError(Exception):
    """There is nothing to restart, or it did not come back."""


async def restart(
    home: Home, what: str, timeout: float, say: Say, settle: float = SETTLE_SECONDS
) -> None:
    """Restart all services, those of one name, or another part.

    Args:
        home: of the mesh.
        what: a service, another part, or empty for all services.
        timeout: seconds for each replica to come back.
        say: is told of each step.
        settle: seconds between a replica's return and the end of the next one.

    Raises:
        RestartError: the mesh does not run, has no such part, or a part did not come back.

    """
    status = running(home)
    if status is None:
        raise RestartError("The mesh does not run.")
    waves = _waves(status, what)
    for number, wave in enumerate(waves):
        if number:
            await asyncio.sleep(settle)
        say(f"  restarting  {', '.join(part.name for part in wave)}")
        begun = time.monotonic()
        await asyncio.gather(*(_end(part) for part in wave))
        await _back(home, wave, timeout)
        say(f"  ready again after {time.monotonic() - begun:.1f} s")


def _waves(status: Status, what: str) -> list[list[PartStatus]]:
    """Return what is restarted together: the first replicas, the second ones, ..."""
    chosen = [part for part in status.parts if _is_meant(part.name, what)]
    if not chosen:
        known = ", ".join(part.name for part in status.parts)
        raise RestartError(f"There is no part {what}; there is: {known}.")
    waves: dict[str, list[PartStatus]] = {}
    for part in chosen:
        waves.setdefault(part.name.partition("-")[2], []).append(part)
    return list(waves.values())


def _is_meant(name: str, what: str) -> bool:
    service = service_of(name)
    return name == what or (bool(service) and what in {"", service})


async def _end(part: PartStatus) -> None:
    await ProcessId(part.pid, part.started).end(_GRACE_SECONDS, politely(part.name))


async def _back(home: Home, wave: Sequence[PartStatus], timeout: float) -> None:
    ended = {(part.name, part.pid, part.started) for part in wave}
    names = {part.name for part in wave}
    deadline = time.monotonic() + timeout
    while True:
        status = running(home)
        if status is None:
            raise RestartError("The mesh was stopped meanwhile.")
        found = [part for part in status.parts if part.name in names]
        fresh = ended.isdisjoint((part.name, part.pid, part.started) for part in found)
        if fresh and all(part.state == "ready" for part in found):
            return
        if time.monotonic() > deadline:
            late = ", ".join(part.name for part in found if part.state != "ready")
            raise RestartError(f"Not back after {timeout:.0f} s: {late}; see {home.logs}.")
        await asyncio.sleep(_POLL_SECONDS)
