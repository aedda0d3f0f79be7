"""Loops that go on whatever happens: a step that fails is logged and tried again, with pauses."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from gathering_mesh.errors import DomainError

_log = structlog.get_logger()
_QUIET = 30.0  # seconds without a failure: a step that lasts is no longer failing


def jittered(seconds: float) -> float:
    """Return a pause of about this length, so that replicas do not come all at once."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - not for secrets


def backoff(attempt: int, first: float, most: float) -> float:
    """Return the pause in seconds after an attempt (the first is 1): doubling, jittered."""
    return jittered(min(most, first * 2 ** min(attempt - 1, 30)))


@dataclass(slots=True)
class _Trouble:
    what: str
    since: float
    last: float


class Failing:
    """Since when loops fail that the process cannot do without."""

    def __init__(self) -> None:
        self._troubles: dict[object, _Trouble] = {}

    def failed(self, loop: object, what: str) -> None:
        """Note a failure; those that follow each other closely are one trouble."""
        now = time.monotonic()
        found = self._troubles.get(loop)
        if found is None or found.last < now - _QUIET:
            found = self._troubles[loop] = _Trouble(what, now, now)
        found.last = now

    def ended(self, loop: object) -> None:
        """Forget a loop that goes on, or is no more."""
        self._troubles.pop(loop, None)

    def longer_than(self, seconds: float) -> list[str]:
        """Return the loops that have failed for so long, and did so a moment ago."""
        now = time.monotonic()
        return sorted(
            found.what
            for found in self._troubles.values()
            if found.since <= now - seconds and found.last >= now - _QUIET
        )


# One to a process, as its health is: loops are started deep inside the parts that need them.
failing = Failing()


async def forever(
    what: str,
    step: Callable[[], Awaitable[None]],
    *,
    first: float = 0.1,
    most: float = 5.0,
    vital: bool = True,
) -> NoReturn:
    """Repeat a step until cancelled; after failures wait `first` seconds, doubling up to `most`.

    An expected failure is a line in the log, any other one with its trace. A loop is `vital` where
    its failing is this service's own trouble, not a peer's.
    """
    failures, me = 0, object()
    try:
        while True:
            try:
                await step()
                failures = 0
                failing.ended(me)
            except Exception as error:
                failures += 1
                report(what, error, failures)
                if vital:
                    failing.failed(me, what)
                await asyncio.sleep(backoff(failures, first, most))
    finally:
        failing.ended(me)


def report(what: str, error: Exception, failures: int) -> None:
    """Log a failed step; the trace only if it is none of the expected errors."""
    if isinstance(error, DomainError):
        _log.warning("step failed", step=what, failures=failures, error=error.message)
    else:
        _log.error("step failed", step=what, failures=failures, exc_info=error)
