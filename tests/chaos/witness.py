"""Tools whose effects the test sees by itself: a line in a file, whatever becomes of the mesh."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.tooling.context import Run
from gathering_skills.tooling.tool import Skill, tool
from tests.chaos.world import Effect

VARIABLE = "GATHERING_WITNESS"


def effects(file: Path) -> list[Effect]:
    """Return what has happened so far; `keyed` effects as their receiver keeps them."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [
        Effect(kind, name, int(attempt))
        for kind, name, attempt in map(str.split, filter(None, lines))
    ]


def _happen(kind: str, run: Run) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(os.environ[VARIABLE], flags, 0o600)
    try:
        os.write(descriptor, f"{kind} {run.execution_id} {run.attempt}\n".encode())
    finally:
        os.close(descriptor)


@tool(permission=Permission.EXECUTE, effect=EffectClass.ONCE, timeout=20)
async def witness_once(run: Run) -> dict[str, Any]:
    """Do something that must not be done twice."""
    _happen("once", run)
    return {"attempt": run.attempt}


@tool(permission=Permission.EXECUTE, effect=EffectClass.KEYED, timeout=20)
async def witness_keyed(run: Run) -> dict[str, Any]:
    """Do something that its receiver knows by the execution's id."""
    _happen("keyed", run)
    return {"attempt": run.attempt}


SKILL = Skill("witness", "Tools of the chaos tests.", (witness_once, witness_keyed))
