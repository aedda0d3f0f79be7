"""The process that looks at files: killed whole, bounded, without our secrets."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gathering_skills.confined.root import Root
from gathering_skills.errors import ToolError
from gathering_skills.provider_inspector import InspectorProcess, scratch_folder
from tests.support.waiting import eventually

SEARCH: dict[str, Any] = {
    "pattern": "x",
    "path": ".",
    "literal": False,
    "ignore_case": False,
    "include": [],
    "exclude": [],
    "context_lines": 0,
    "limit": 10,
    "offset": 0,
}
LINT: dict[str, Any] = {"path": ".", "rules": ["F"], "ignore": [], "limit": 10, "offset": 0}


def children() -> set[int]:
    """Return the processes that this one has started."""
    own = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(number) for number in own.split()}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """A workspace."""
    (tmp_path / "ground").mkdir()
    with Root.open(str(tmp_path.resolve() / "ground")) as opened:
        yield opened


@pytest.fixture
def inspector(tmp_path: Path) -> InspectorProcess:
    """The process, with a ruff that a test may write."""
    (tmp_path / "scratch").mkdir()
    return InspectorProcess(tmp_path / "ruff", tmp_path / "scratch", 2)


def fake_ruff(folder: Path, script: str) -> None:
    """Put a program in the place of ruff."""
    (folder / "ruff").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ruff").chmod(0o755)


async def test_expression_that_takes_for_ever_is_killed(
    root: Root, inspector: InspectorProcess, tmp_path: Path
) -> None:
    (tmp_path / "ground/f").write_text("a" * 60 + "b\n")
    before = children()
    began = time.monotonic()
    with pytest.raises(ToolError) as refused:
        await inspector.inspect(root.descriptor, "text", {**SEARCH, "pattern": "(a+)+$"}, 1.5)
    assert refused.value.reason == "TOOL_TIMEOUT"
    assert time.monotonic() - began < 10
    assert children() <= before


async def test_cancelled_job_leaves_no_process(
    root: Root, inspector: InspectorProcess, tmp_path: Path
) -> None:
    (tmp_path / "ground/a.py").write_text("x = 1\n")
    fake_ruff(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 600")
    task = asyncio.create_task(inspector.inspect(root.descriptor, "lint", LINT, 60))

    await eventually(lambda: written(tmp_path / "pid"), "ruff runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    grandchild = int((tmp_path / "pid").read_text())
    await eventually(lambda: gone(grandchild), "ruff ended as well")


def content(path: Path) -> str:
    """Return what a file holds, nothing if it is not there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


async def written(path: Path) -> bool:
    """Tell whether a file holds something."""
    return bool(content(path).strip())


async def gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    return content(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] in ([], ["Z"])


async def test_environment_of_the_service_is_not_passed_on(
    root: Root, inspector: InspectorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATHERING_DATABASE_URL", "postgresql://secret")
    (tmp_path / "ground/a.py").write_text("x = 1\n")
    fake_ruff(
        tmp_path,
        f"env >> {tmp_path}/env; tr '\\0' '\\n' < /proc/$PPID/environ >> {tmp_path}/env; echo '[]'",
    )
    await inspector.inspect(root.descriptor, "lint", LINT, 20)
    seen = (tmp_path / "env").read_text()
    assert "PATH=" in seen
    assert "secret" not in seen


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 3", "TOOL_FAILED"), ("kill -9 $$", "TOOL_FAILED"), ("sleep 60", "TOOL_TIMEOUT")],
)
async def test_ruff_that_fails_is_a_result(
    root: Root, inspector: InspectorProcess, tmp_path: Path, script: str, reason: str
) -> None:
    (tmp_path / "ground/a.py").write_text("x = 1\n")
    fake_ruff(tmp_path, script)
    with pytest.raises(ToolError) as refused:
        await inspector.inspect(root.descriptor, "lint", LINT, 3)
    assert refused.value.reason == reason
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_sources_made_to_break_parsers_are_told_as_such(
    root: Root, inspector: InspectorProcess, tmp_path: Path
) -> None:
    hostile = {
        "deep.py": "(" * 5000 + ")" * 5000,
        "minus.py": "-" * 50_000 + "1",
        "chain.py": "a" + ".b" * 50_000,
        "sum.py": "+".join(["1"] * 50_000),
        "nul.py": "x = 1\0",
        "latin.py": "# coding: nonsense\nx = 1\n",
        "lists.py": "[" * 150 + "]" * 150,
        "ifs.py": "\n".join(" " * n + "if x:" for n in range(90)),
        "ok.py": "def f():\n    return 1\n",
    }
    for name, text in hostile.items():
        (tmp_path / "ground" / name).write_text(text)
    for job, arguments in (
        ("sizes", {"path": ".", "limit": 5}),
        ("imports", {"path": ".", "limit": 5}),
    ):
        try:
            found: Any = await inspector.inspect(root.descriptor, job, arguments, 30)
        except ToolError as error:
            assert "killed" in error.message  # the parser fell over, and took nobody with it
            continue
        assert found["python_file_count"] == len(hostile)
        assert {"deep.py", "nul.py", "latin.py"} <= {f["path"] for f in found["unparsed_files"]}


async def test_huge_files_are_left_out_and_counted(
    root: Root, inspector: InspectorProcess, tmp_path: Path
) -> None:
    with (tmp_path / "ground/huge.py").open("wb") as file:
        file.truncate(50 * 1024**3)
    (tmp_path / "ground/a.py").write_text("x = 1\n")
    found: Any = await inspector.inspect(root.descriptor, "text", SEARCH, 20)
    assert (found["match_count"], found["skipped_file_count"]) == (1, 1)
    sizes: Any = await inspector.inspect(root.descriptor, "sizes", {"path": ".", "limit": 5}, 20)
    assert sizes["python_file_count"] == 1
    assert "1 file" in sizes["message"]


async def test_many_files_within_the_time_are_a_part_that_says_so(
    root: Root, inspector: InspectorProcess, tmp_path: Path
) -> None:
    for number in range(600):
        (tmp_path / f"ground/{number}.txt").write_text("aaaaaaaaaaaaaaaaaab\n" * 2)
    slow = {**SEARCH, "pattern": "(a+)+$"}  # a tenth of a second for each file
    found: Any = await inspector.inspect(root.descriptor, "text", slow, 6)
    assert found["searched_file_count"] < 600
    assert "Only the first" in found["message"]


def test_scratch_of_processes_that_died_is_removed(tmp_path: Path) -> None:
    dead = tmp_path / "gathering-skills-4194303-abc"
    alive = tmp_path / f"gathering-skills-{os.getppid()}-abc"
    for folder in (dead, alive):
        folder.mkdir()
    with scratch_folder(tmp_path) as own:
        assert not dead.exists()
        assert alive.exists()
        assert own.parent == tmp_path
    assert not own.exists()
