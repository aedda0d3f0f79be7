"""Loops that go on whatever happens: a step that fails is logged and tried again, with pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog

from gathering_mesh.errors import DomainError

_log = structlog.get_logger()


def jittered(seconds: float) -> float:
    """Return a pause of about this length, so that replicas do not come all at once."""
    return seconds * random.uniform(0.5, 1.5)  # noqa: S311 - not for secrets


def backoff(attempt: int, first: float, most: float) -> float:
    """Return the pause in seconds after an attempt (the first is 1): doubling, jittered."""
    return jittered(min(most, first * 2 ** min(attempt - 1, 30)))


async def forever(
    what: str, step: Callable[[], Awaitable[None]], *, first: float = 0.1, most: float = 5.0
) -> NoReturn:
    """Repeat a step until cancelled; after failures wait `first` seconds, doubling up to `most`.

    An expected failure is a line in the log, any other one with its trace.
    """
    failures = 0
    while True:
        try:
            await step()
            failures = 0
        except Exception as error:
            failures += 1
            report(what, error, failures)
            await asyncio.sleep(backoff(failures, first, most))


def report(what: str, error: Exception, failures: int) -> None:
    """Log a failed step; the trace only if it is none of the expected errors."""
    if isinstance(error, DomainError):
        _log.warning("step failed", step=what, failures=failures, error=error.message)
    else:
        _log.error("step failed", step=what, failures=failures, exc_info=error)
