"""Tools that exist for tests: slow ones, ones whose effect happens once, ones that break."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from gathering_skills.confined.changes import Draft
from gathering_skills.errors import ToolError
from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.tooling.context import Run, Workspace
from gathering_skills.tooling.tool import Skill, tool


def note(work: Workspace, path: str, text: str) -> None:
    """Add a line to a file in the workspace."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(path, flags, 0o644, dir_fd=work.root.descriptor)
    os.write(descriptor, f"{text}\n".encode())
    os.fsync(descriptor)
    os.close(descriptor)


@tool(permission=Permission.EXECUTE, effect=EffectClass.ONCE, timeout=20)
async def probe_once(
    work: Workspace, path: str, before: float = 0, after: float = 0, fail: str = ""
) -> dict[str, Any]:
    """Add a line to a file: an effect that must not happen twice.

    Args:
        path: The file.
        before: Seconds to wait before the effect.
        after: Seconds to wait after it.
        fail: How to fail after the effect: `tool` or `bug`.
    """
    note(work, f"{path}.begun", work.execution_id)
    await asyncio.sleep(before)
    note(work, path, work.execution_id)
    await asyncio.sleep(after)
    if fail == "tool":
        raise ToolError("it said no")
    if fail == "bug":
        raise RuntimeError("a bug")
    return {"attempt": work.attempt}


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=120)
async def probe_slow(work: Workspace, path: str, seconds: float) -> dict[str, Any]:
    """Note each attempt, then take so many seconds.

    Args:
        path: Where attempts are noted.
        seconds: How long.
    """
    note(work, path, f"{work.execution_id} {work.attempt}")
    await asyncio.sleep(seconds)
    return {"attempt": work.attempt}


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=0.3)
async def probe_late(work: Run) -> dict[str, Any]:
    """Take longer than is allowed."""
    await asyncio.sleep(60)
    return {}


@tool(permission=Permission.EXECUTE, effect=EffectClass.ONCE, timeout=0.3)
async def probe_late_once(work: Run) -> dict[str, Any]:
    """Take longer than is allowed, with an effect that must not happen twice."""
    await asyncio.sleep(60)
    return {}


@tool(permission=Permission.WRITE, effect=EffectClass.KEYED, timeout=20)
async def probe_keyed(work: Workspace, path: str, seconds: float) -> dict[str, Any]:
    """Hand over a message under the execution's id to somebody who removes duplicates.

    Args:
        path: Where messages arrive.
        seconds: How long it takes after that.
    """
    note(work, path, work.execution_id)
    await asyncio.sleep(seconds)
    return {"attempt": work.attempt}


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=20)
async def probe_fatal(work: Workspace, path: str) -> dict[str, Any]:
    """Take the whole process down.

    Args:
        path: Where attempts are noted.
    """
    note(work, path, f"{work.attempt}")
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=20)
async def probe_large(work: Run, characters: int) -> dict[str, Any]:
    """Give more than a result may have.

    Args:
        characters: How much.
    """
    return {"text": "x" * characters, "numbers": list(range(10)), "note": "kept"}


@tool(permission=Permission.WRITE, effect=EffectClass.CONVERGENT, timeout=60, writes=["path"])
async def probe_write(work: Workspace, path: str, content: str, before: float) -> dict[str, Any]:
    """Write a file as fs_write does, but slowly.

    Args:
        path: The file.
        content: What is written.
        before: Seconds between writing the draft and putting it in its place.
    """
    draft = Draft(work.root, path, work.execution_id, work.attempt)
    try:
        await work.in_thread(draft.write, content.encode(), "", work.checkpoint)
        note(work, "attempts", f"{work.attempt}")
        await asyncio.sleep(before)
        await work.hold()
        await work.in_thread(draft.publish)
    finally:
        draft.close()
    return {"attempt": work.attempt}


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=60, tells=True)
async def probe_tell(work: Workspace, path: str, pauses: list[float], size: int) -> dict[str, Any]:
    """Tell lines, which name the attempt and their number.

    Args:
        path: A file; the last line waits until it is there.
        pauses: Seconds before each line.
        size: How long a line is, in characters of two bytes, beside its beginning.
    """
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        await work.tell(f"{work.attempt} {number} {'ö' * size}\n")
    while not os.access(path, os.F_OK, dir_fd=work.root.descriptor):  # noqa: ASYNC110 (a file)
        await asyncio.sleep(0.02)
    await work.tell("last\n")
    return {"attempt": work.attempt}


SKILL = Skill(
    "probe",
    "Tools of the tests.",
    (
        probe_fatal,
        probe_keyed,
        probe_large,
        probe_late,
        probe_late_once,
        probe_once,
        probe_slow,
        probe_tell,
        probe_write,
    ),
)
