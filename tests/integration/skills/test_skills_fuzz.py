"""Arguments and files at random: every tool ends in a result or names what is wrong with it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from gathering_mesh.errors import InvalidArgument
from gathering_skills.tooling.tool import Tool
from gathering_skills.tools.standard import SKILLS
from tests.integration.skills.harness import DONE, FAILED, Caller

CHANCE = random.Random(11)  # noqa: S311 - not for secrets
NAMES = (
    *("a", "b.py", "c/d.py", "c", "..", ".", "", "/", "c/..", "c//d.py", "./b.py/", "b.py/x"),
    *("link", "out", "fifo", "x" * 300, "é\u200b", "-rf", "*", "c/\n", "~", "con:x", " "),
)
TEXTS = (
    *NAMES,
    "(",
    "[a-",
    "(?P<x>a)\\1",
    "a{1,9999}",
    "{a,b}{c,d}",
    "**/**",
    "F",
    "ALL",
    "\u2028",
)
NUMBERS = (0, 1, 2, 7, 5000, -1, 10**9, 2**53, 1.5)


def fill(ground: Path) -> None:
    """Put a few things into the directory."""
    (ground / "c").mkdir()
    for name in ("a", "b.py", "c/d.py"):
        (ground / name).write_text("import os\ndef f(x=[]):\n    return x\n")
    (ground / "link").symlink_to("c")
    (ground / "out").symlink_to("/etc")


def value(schema: dict[str, Any]) -> Any:
    """Return a value that may fit a schema, or not."""
    kind = schema.get("type")
    if CHANCE.random() < 0.05:
        return CHANCE.choice([None, True, "x", 3, [], {}, [[]]])
    if kind == "string":
        return CHANCE.choice(TEXTS)
    if kind == "integer":
        return CHANCE.choice(NUMBERS)
    if kind == "boolean":
        return CHANCE.random() < 0.5
    return [value(schema.get("items", {})) for _ in range(CHANCE.randint(0, 3))]


def arguments_for(tool: Tool) -> dict[str, Any]:
    """Return arguments for a tool."""
    schema = tool.spec.arguments_schema
    return {
        name: value(one)
        for name, one in schema["properties"].items()
        if name in schema.get("required", ()) or CHANCE.random() < 0.3
    }


async def test_tools_bear_whatever_they_are_given(
    admin: Caller, workspace: str, ground: Path
) -> None:
    fill(ground)
    before = sorted(path.name for path in ground.parent.iterdir())
    ended = 0
    for skill in SKILLS:
        for tool in skill.tools:
            for _ in range(8 if skill.name == "analysis" else 20):
                arguments = arguments_for(tool)
                try:
                    execution = await admin.execute(
                        tool.spec.name, workspace, **{f"{k}": v for k, v in arguments.items()}
                    )
                except InvalidArgument as refused:
                    assert refused.fields, arguments
                    continue
                ended += 1
                assert execution.state in {DONE, FAILED}, (tool.spec.name, arguments)
                assert "the tool broke" not in execution.error_message, (tool.spec.name, arguments)
                assert "that looked at the files" not in execution.error_message, arguments
    assert ended > 50
    assert sorted(path.name for path in ground.parent.iterdir()) == before
