"""Named points at which a test lets this process die, fail, wait or freeze.

Off unless the environment names a folder in GATHERING_FAULTS, which only tests do; then a point is
one look at a name. Not part of any service's settings: it is nothing to configure a service by.

A file in that folder arms a point: `turn.step_stored` for whoever passes there first, of all
processes that see the folder, `agent:turn.step_stored` for that service. Its content is JSON such
as `{"action": "kill", "at": 3}`: at the third pass. Whoever acts leaves `<name>.hit` behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

_FOLDER = os.environ.get("GATHERING_FAULTS", "")
_SERVICE = os.environ.get("GATHERING_SERVICE", "")
_SECONDS = 1.0
POINTS: frozenset[str] = frozenset(
    {
        "consumer.advanced", "consumer.committed", "consumer.handled",
        "execution.effect", "execution.effected", "execution.ended", "execution.ending",
        "execution.requested", "execution.started", "execution.told",
        "log.committed", "log.moved", "log.moving", "log.notified",
        "mutation.committed", "mutation.finished",
        "remember.found", "remember.kept", "remember.stored",
        "task.artifacts_read", "task.offer_answered", "task.reviewed", "task.stepping",
        "task.turn_started",
        "transaction.committed", "transaction.flushed",
        "turn.model_answered", "turn.model_call", "turn.results_stored", "turn.step_stored",
        "turn.tool_answered", "turn.tool_call",
        "work.claimed", "work.locked", "work.renewed", "work.settled",
    }
)  # fmt: skip


class Fault(Exception):
    """What a point raises that is armed to fail: an error like any other that nobody expected."""


async def point(name: str) -> None:
    """Pass a point; `name` is one of POINTS."""
    if _FOLDER:
        await _pass(name)


async def _pass(name: str) -> None:
    for file in (f"{_SERVICE}:{name}", name):
        armed = _claimed(Path(_FOLDER, file))
        if armed is not None:
            await _act(armed, name)
            return


def _claimed(armed: Path) -> dict[str, Any] | None:
    """Take an armed fault, as the only one of all processes; None if it is not our turn."""
    mine = armed.with_name(f"{armed.name}.{os.getpid()}")
    try:
        armed.rename(mine)
    except FileNotFoundError:
        return None
    fault: dict[str, Any] = json.loads(mine.read_text())
    left = int(fault.get("at", 1))
    if left > 1:
        mine.write_text(json.dumps({**fault, "at": left - 1}))
        mine.rename(armed)
        return None
    mine.rename(armed.with_name(f"{armed.name}.hit"))
    return fault


async def _act(fault: dict[str, Any], name: str) -> None:
    match fault["action"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":  # until somebody sends SIGCONT
            os.kill(os.getpid(), signal.SIGSTOP)
        case "delay":
            await asyncio.sleep(float(fault.get("seconds", _SECONDS)))
        case "raise":
            raise Fault(f"at {name}, as a test asked for")
        case other:
            raise ValueError(f"no such fault: {other}")
