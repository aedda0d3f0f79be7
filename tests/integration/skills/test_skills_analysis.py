"""What the tools find is what one finds by hand."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gathering_skills.tools.analysis import IGNORED, RULES
from tests.integration.skills.harness import Caller

ROOT = Path(__file__).parents[3]
RUFF = Path(sys.executable).with_name("ruff")


def by_hand(command: str, folder: Path) -> list[dict[str, Any]]:
    """Run the command that a result names, and return what it finds."""
    program, *arguments = shlex.split(command)
    assert program == "ruff"
    done = subprocess.run(
        [RUFF, *arguments, "--exit-zero", "--no-cache"],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def copy(source: Path, target: Path) -> None:
    """Copy Python files."""
    for path in source.rglob("*.py"):
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(path.read_bytes())


def messy(ground: Path) -> None:
    """Fill a directory with what linters meet: broken files, caches, other tools' folders."""
    copy(Path(json.__file__).parent, ground / "library")
    (ground / "broken.py").write_text("def (:\n")
    (ground / "notebook.ipynb").write_text(
        json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "source": ["import os\n"],
                        "metadata": {},
                        "outputs": [],
                        "execution_count": None,
                    }
                ],
                "metadata": {},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )
    )
    (ground / "pyproject.toml").write_text("[tool.ruff.lint]\nselect = []\n[project]\nname = 3\n")
    for name in ("node_modules", ".venv", "build", "dist", "__pycache__", "src/venv"):
        (ground / name).mkdir(parents=True)
        (ground / name / "bad.py").write_text("import os\n")
    (ground / "stub.pyi").write_text("import os\ndef f(x: int = 1) -> None: ...\n")
    (ground / ".gitignore").write_text("ignored/\n*_gen.py\n!kept_gen.py\n")
    (ground / ".git").mkdir()
    (ground / "ignored").mkdir()
    for name in ("ignored/bad.py", "some_gen.py", "kept_gen.py", "src/deep_gen.py", "src/ok.py"):
        (ground / name).write_text("import os\nimport sys\n\n\ndef f(a=[]):\n    eval(a)\n")


async def lint_all(admin: Caller, workspace: str, **arguments: Any) -> dict[str, Any]:
    """Lint and follow `next_offset` to the last finding."""
    found = await admin.output("analysis_lint", workspace, limit=200, **arguments)
    offset = int(found["next_offset"])
    while offset:
        more = await admin.output("analysis_lint", workspace, limit=200, offset=offset, **arguments)
        assert more["finding_count"] == found["finding_count"]
        found["findings"] += more["findings"]
        offset = int(more["next_offset"])
    return found


def places(findings: list[dict[str, Any]], folder: Path) -> Counter[tuple[str, int, int, str]]:
    """Return where ruff found what."""
    return Counter(
        (
            str(Path(f["filename"]).relative_to(folder)),
            f["location"]["row"],
            f["location"]["column"],
            f["code"],
        )
        for f in findings
    )


def told(findings: list[dict[str, Any]]) -> Counter[tuple[str, int, int, str]]:
    """Return where the tool found what."""
    return Counter((f["path"], int(f["line"]), int(f["column"]), f["rule"]) for f in findings)


@pytest.mark.parametrize("rules", [RULES, ["ALL"]])
async def test_lint_finds_what_ruff_finds_by_hand(
    admin: Caller, workspace: str, ground: Path, rules: list[str]
) -> None:
    messy(ground)
    found = await lint_all(admin, workspace, rules=rules)
    hand = by_hand(found["command"], ground)
    assert told(found["findings"]) == places(hand, ground)
    assert found["finding_count"] == len(hand) > 30
    counts = Counter(finding["code"] for finding in hand)
    assert {t["rule"]: t["count"] for t in found["totals"]} == dict(counts.most_common(60))
    assert all(t["why"] for t in found["totals"] if t["rule"] != "invalid-syntax")
    assert found["ignore"] == IGNORED


async def test_lint_of_a_part_and_of_a_file(admin: Caller, workspace: str, ground: Path) -> None:
    messy(ground)
    for path in ("src", "src/ok.py", "ignored/bad.py", "library/decoder.py"):
        found = await lint_all(admin, workspace, path=path)
        hand = by_hand(found["command"], ground)
        assert told(found["findings"]) == places(hand, ground), path


async def test_file_over_which_ruff_breaks_down_is_named_and_the_rest_is_told(
    admin: Caller, workspace: str, ground: Path
) -> None:
    (ground / "deep").mkdir()
    (ground / "deep/nested.py").write_text("x = " + "-" * 60_000 + "1\n")
    for number in range(5):
        (ground / f"f{number}.py").write_text("import os\n\n\ndef f():\n    pass\n")
    found = await admin.output("analysis_lint", workspace, rules=["F"])
    assert (found["python_file_count"], found["finding_count"]) == (5, 5)
    assert found["skipped_file_count"] == 1
    assert "deep/nested.py (too deeply nested)" in found["message"]
    measured = await admin.output("analysis_complexity", workspace)
    assert measured["function_count"] == 5
    assert "deep/nested.py" in measured["message"]


async def test_lint_does_not_follow_links(admin: Caller, workspace: str, ground: Path) -> None:
    outside = ground.parent / "outside.py"
    outside.write_text("import os\n")
    (ground / "link.py").symlink_to(outside)
    (ground / "own.py").write_text("x = 1\n")
    found = await admin.output("analysis_lint", workspace)
    assert (found["python_file_count"], found["finding_count"]) == (1, 0)
    reason, _ = await admin.refused("analysis_lint", workspace, path="link.py")
    assert reason == "PATH_OUTSIDE_WORKSPACE"


async def test_unknown_rule_is_told_in_ruffs_words(
    admin: Caller, workspace: str, ground: Path
) -> None:
    (ground / "a.py").write_text("x = 1\n")
    reason, message = await admin.refused("analysis_lint", workspace, rules=["QQQ1"])
    assert reason == "TOOL_FAILED"
    assert "QQQ1" in message


@pytest.mark.parametrize("threshold", [0, 5, 10])
async def test_complexity_is_that_of_ruff(
    admin: Caller, workspace: str, ground: Path, threshold: int
) -> None:
    messy(ground)
    found = await admin.output("analysis_complexity", workspace, threshold=threshold, limit=500)
    hand = [f for f in by_hand(found["command"], ground) if f["code"] == "C901"]
    assert {(f["path"], int(f["line"])) for f in found["functions"]} == {
        (str(Path(f["filename"]).relative_to(ground)), f["location"]["row"]) for f in hand
    }
    assert found["over_threshold_count"] == len(hand)
    numbers = [f["complexity"] for f in found["functions"]]
    assert numbers == sorted(numbers, reverse=True)
    assert found["highest"] == numbers[0]


async def test_size_counts_lines_functions_and_classes(
    admin: Caller, workspace: str, ground: Path
) -> None:
    method = 'class A:\n    def f(self):\n        """D."""\n        return 1\n'
    text = f"# c\n\n{method}\n\nasync def g():\n    x = 1\n    return x\n"
    (ground / "a.py").write_text(text)
    (ground / "broken.py").write_text("def (:\n")
    found = await admin.output("analysis_size", workspace)
    assert {name: found[name] for name in found if name.endswith("_count")} == {
        "python_file_count": 2,
        "line_count": 12,
        "code_line_count": 8,
        "comment_line_count": 1,
        "blank_line_count": 3,
        "function_count": 2,
        "class_count": 1,
    }
    assert [(f["name"], f["line_count"]) for f in found["longest_functions"]] == [
        ("A.f", 3),
        ("g", 3),
    ]
    assert [f["path"] for f in found["unparsed_files"]] == ["broken.py"]


async def test_imports_tell_own_modules_and_others_apart(
    admin: Caller, workspace: str, ground: Path
) -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/a.py": "import os\nfrom pkg import b\nimport requests\n",
        "pkg/b.py": "from . import c\nfrom typing import TYPE_CHECKING\n",
        "pkg/c.py": "from pkg.a import x\nimport numpy.linalg as l\n",
        "pkg/d.py": "def f():\n    from pkg import a\n",
        "pkg/e.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import d\n",
    }
    for path, text in files.items():
        (ground / path).parent.mkdir(exist_ok=True)
        (ground / path).write_text(text)
    found = await admin.output("analysis_imports", workspace)
    assert [t["name"] for t in found["third_party"]] == ["numpy", "requests"]
    assert {t["name"] for t in found["standard_library"]} == {"os", "typing"}
    (cycle,) = found["cycles"]
    assert cycle["example"] == ["pkg/a.py", "pkg/b.py", "pkg/c.py", "pkg/a.py"]
    edges = {(e["importer"], e["imported"]) for e in found["edges"]}
    assert ("pkg/e.py", "pkg/d.py") in edges
    assert ("pkg/d.py", "pkg/a.py") in edges


@pytest.mark.parametrize(
    "tool",
    [f"analysis_{name}" for name in ("summary", "lint", "complexity", "size", "imports")],
)
async def test_without_python_each_tool_says_what_it_found(
    admin: Caller, workspace: str, ground: Path, tool: str
) -> None:
    empty = await admin.output(tool, workspace)
    assert empty["python_file_count"] == 0
    assert "no file" in empty["message"]
    (ground / "docs").mkdir()
    for name in ("a.md", "docs/b.md", "c.txt"):
        (ground / name).write_text("text\n")
    found = await admin.output(tool, workspace)
    assert found["python_file_count"] == 0
    assert "no Python file" in found["message"]
    assert "3 files (2 .md, 1 .txt)" in found["message"]
    reason, message = await admin.refused(tool, workspace, path="nowhere")
    assert (reason, "nowhere" in message) == ("NOT_FOUND", True)


async def test_summary_counts_types_and_packages(
    admin: Caller, workspace: str, ground: Path
) -> None:
    messy(ground)
    found = await admin.output("analysis_summary", workspace)
    types = {t["extension"]: t["file_count"] for t in found["file_types"]}
    assert types[".ipynb"] == 1
    assert found["python_file_count"] == types[".py"] + types[".pyi"]
    assert found["packages"] == ["library"]


async def test_search_finds_lines_with_context_and_pages(
    admin: Caller, workspace: str, ground: Path
) -> None:
    for number in range(30):
        (ground / f"f{number:02}.txt").write_text("one\nTWO\nthree\n" * 10)
    (ground / "data.bin").write_bytes(b"TWO\0")
    seen = []
    offset = 0
    while True:
        found = await admin.output(
            "search_text", workspace, pattern="^tw", ignore_case=True, limit=70, offset=offset
        )
        seen += found["matches"]
        offset = int(found["next_offset"])
        if not offset:
            break
    assert found["match_count"] == len(seen) == 300
    assert found["skipped_file_count"] == 1
    assert len({(match["path"], match["line"]) for match in seen}) == 300
    near = await admin.output(
        "search_text", workspace, pattern="T.O", include=["f00*"], context_lines=1, limit=1
    )
    (match,) = near["matches"]
    assert (match["before"], match["text"], match["after"]) == (["one"], "TWO", ["three"])
    literal = await admin.output("search_text", workspace, pattern="T.O", literal=True)
    assert literal["match_count"] == 0
    files = await admin.output("search_files", workspace, pattern="f0[12].txt")
    assert [f["path"] for f in files["files"]] == ["f01.txt", "f02.txt"]
