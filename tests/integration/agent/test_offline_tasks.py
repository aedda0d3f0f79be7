"""The main job by the offline model with the product's own tools: work, review, rounds, lies."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gathering_orchestrator.tasks import verdicts
from gathering_orchestrator.tasks.models_states import Verdict
from tests.integration.agent.offline_loop import REVIEW, RUFF, WORK, Agent, Turn, working_in

REPORT = "REVIEW.md"
CRITERIA = [
    "REVIEW.md exists and says which tools were run.",
    "Lint findings are listed with file, line, rule and why.",
    "The most complex functions are listed with file, line and complexity.",
    "The largest files are listed with their size in lines.",
    "Import cycles are listed, or the report says that there are none.",
]
CODE = {
    "pkg/__init__.py": "",
    "pkg/one.py": (
        "import os\nfrom pkg import two\n\n\ndef first(items=[]):\n    return two.second(items)\n"
    ),
    "pkg/two.py": (
        "from pkg import one\nimport subprocess\n\n\n"
        "def second(x):\n"
        "    subprocess.run(x, shell=True)\n"
        + "".join(f"    if x == {n}:\n        return {n}\n" for n in range(12))
        + "    return one\n"
    ),
    "pkg/three.py": (
        "password = 'secret'\n\n\ndef third():\n"
        "    try:\n        return 1\n    except:\n        pass\n"
    ),
}


def prompt(opening: str, round: int, earlier: str = "") -> str:
    parts = [
        opening if round == 1 else f"{opening} Round {round}.",
        f"Task: Review this code base and write {REPORT}",
        "Description:\nExamine the Python code of the workspace with the analysis tools and report "
        f"what you find in {REPORT}. If something cannot be examined, say so and why.",
        "Acceptance criteria:\n" + "\n".join(f"{n}. {c}" for n, c in enumerate(CRITERIA, 1)),
        "Workspace: wsp_" + "1" * 32,
        "Circle: crc_" + "1" * 32,
        f"Earlier review:\n{earlier}" if earlier else "",
    ]
    return "\n\n".join(part for part in parts if part)


class Circle:
    """An author and a reviewer on one directory, as the orchestrator has them work."""

    def __init__(self, folder: Path, author: Agent, reviewer: Agent) -> None:
        self.folder = folder
        self.author = author
        self.reviewer = reviewer

    async def work(self, round: int = 1, earlier: str = "", calls: int = 5) -> Turn:
        text = prompt("You accepted this task. Do the work with your tools.", round, earlier)
        return await self.author.turn(text, WORK, max_tool_calls=calls, session="work")

    async def review(self, summary: str = "done", calls: int = 5) -> dict[str, Any]:
        content = (self.folder / REPORT).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        text = (
            prompt("A colleague handed in work on this task. Review it.", 1)
            + f"\n\nWork to review:\nSummary: {summary}\nArtifacts:\n"
            + f"- {REPORT} (sha256 {digest}, {len(content)} bytes)"
        )
        turn = await self.reviewer.turn(text, REVIEW, max_tool_calls=calls)
        assert turn.result is not None
        verdicts.judgement(turn.result, CRITERIA)  # the orchestrator can use it
        return turn.result

    @property
    def report(self) -> str:
        return (self.folder / REPORT).read_text()


@pytest.fixture
async def circle(tmp_path: Path) -> AsyncIterator[Circle]:
    folder = tmp_path / "work"
    folder.mkdir()
    async with AsyncExitStack() as stack:
        author, reviewer = [
            await stack.enter_async_context(working_in(folder, tmp_path / name))
            for name in ("author", "reviewer")
        ]
        yield Circle(folder, author, reviewer)


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def unmet(result: dict[str, Any]) -> list[str]:
    return [one["criterion"] for one in result["criteria"] if not one["met"]]


async def test_first_round_falls_short_and_the_second_is_approved(circle: Circle) -> None:
    fill(circle.folder, CODE)
    first = await circle.work()
    assert len(first.tools) == 5
    assert first.result is not None
    assert first.result["artifacts"] == [REPORT]
    assert "Imports" in str(first.result["summary"])
    assert "bound on tool calls" in circle.report

    review = await circle.review(str(first.result["summary"]))
    assert review["verdict"] == "changes_requested"
    assert unmet(review) == [CRITERIA[4]]
    assert "pkg/one.py" in review["criteria"][4]["evidence"]  # the cycle that is there

    told = [one for one in review["criteria"] if not one["met"]]
    earlier = f"Comment: {review['comment']}\n" + "\n".join(
        f"Not met: {one['criterion']}\nEvidence: {one['evidence']}" for one in told
    )
    second = await circle.work(2, earlier)
    assert second.tools[0] == "analysis_imports"
    review = await circle.review(str(second.result))
    assert review["verdict"] == "approved", review["comment"]
    assert "pkg/one.py -> pkg/two.py" in circle.report
    assert "analysis_size" in circle.report  # kept from the first version, with its run
    assert len(circle.author.memories) == 2
    assert "Not covered so far: Imports" in circle.author.memories[0]


async def test_findings_are_those_of_the_tool_run_by_hand(circle: Circle) -> None:
    fill(circle.folder, CODE)
    await circle.work(calls=20)
    rows = re.findall(r"^\| `([^`]+?):(\d+)` \| ([A-Z]+\d+) ", circle.report, re.MULTILINE)
    command = re.search(r"`ruff (check [^`]*--select E4[^`]*)`", circle.report)
    assert command is not None
    by_hand = subprocess.run(  # noqa: ASYNC221 (of a test)
        [RUFF, *command[1].replace("json", "concise").split()],
        cwd=circle.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = re.findall(r"^(\S+?):(\d+):\d+: ([A-Z]+\d+) ", by_hand.stdout, re.MULTILINE)
    assert sorted(rows) == sorted(lines)
    assert {"B006", "E722", "S602", "S105", "F401"} <= {rule for _, _, rule in rows}
    assert "`pkg/two.py:5` | complexity 13 |" in circle.report
    assert (await circle.review(calls=20))["verdict"] == "approved"


@pytest.mark.parametrize(
    ("honest", "lie", "criterion"),
    [
        (r"`pkg/two\.py:6` \| S602", "`pkg/two.py:7` | S602", 1),
        (r"(\| `pkg/one\.py:1` \| F401)", r"| `pkg/one.py:2` | S999 made-up | x | y |\n\1", 1),
        (r"`pkg/two\.py:5` \| complexity 13", "`pkg/two.py:5` | complexity 99", 2),
        (r"\| `pkg/two\.py` \| \d+ lines", "| `pkg/two.py` | 1 lines", 3),
        (r"pkg/one\.py -> pkg/two\.py -> pkg/one\.py", "pkg/one.py", 4),
        (r"(?s)## Complexity.*?(?=## Size)", "", 2),
        (r"(\| F401 unused-import \| [^|]+\|)[^|\n]+\|", r"\1  |", 1),
    ],
)
async def test_reviewer_finds_what_is_not_so(
    circle: Circle, honest: str, lie: str, criterion: int
) -> None:
    fill(circle.folder, CODE)
    await circle.work(calls=20)
    changed = re.sub(honest, lie, circle.report)
    assert changed != circle.report
    (circle.folder / REPORT).write_text(changed)
    review = await circle.review(calls=20)
    assert review["verdict"] == "changes_requested"
    assert unmet(review) == [CRITERIA[criterion]], review["criteria"][criterion]


async def test_without_python_the_report_says_so_and_the_reviewer_agrees(circle: Circle) -> None:
    fill(circle.folder, {"notes.md": "# Notes\n", "data/a.csv": "1,2\n"})
    turn = await circle.work()
    assert turn.result is not None
    assert "no Python" in str(turn.result["summary"])
    review = await circle.review()
    assert review["verdict"] == "approved", review["comment"]
    assert "Cannot be done here" in review["criteria"][1]["evidence"]

    report = circle.report.replace(
        "## Complexity", "## Lint\n\n| `a.py:3` | F401 x | b | c |\n\n## X"
    )
    (circle.folder / REPORT).write_text(report)
    assert (await circle.review())["verdict"] == "changes_requested"


async def test_where_python_is_but_the_report_denies_it_the_reviewer_objects(
    circle: Circle,
) -> None:
    fill(circle.folder, CODE)
    denial = "# Review\n\nThere is no Python code here, so nothing can be examined.\n"
    (circle.folder / REPORT).write_text(denial)
    review = await circle.review()
    assert review["verdict"] == "changes_requested"
    assert len(unmet(review)) >= 4


async def test_report_of_another_hand_is_judged_by_what_it_says(circle: Circle) -> None:
    fill(circle.folder, CODE)
    (circle.folder / REPORT).write_text(
        "# Findings\n\nI ran analysis_lint, analysis_complexity and analysis_size.\n\n"
        "## Lint\n\n- pkg/two.py:6: S602, a shell is started with what the caller gives.\n\n"
        "## Complex functions\n\n- pkg/two.py:5 second has complexity 13\n\n"
        "## Largest files\n\n| File | Size | Kind | Note |\n|---|---|---|---|\n"
        f"| `pkg/two.py` | {len(CODE['pkg/two.py'].splitlines())} lines | file | long |\n\n"
        "## Import cycles\n\npkg/one.py and pkg/two.py import each other.\n"
    )
    review = await circle.review(calls=20)
    assert review["verdict"] == "approved", [c for c in review["criteria"] if not c["met"]]
    assert Verdict.APPROVED.name.lower() == review["verdict"]


async def test_work_without_a_tool_to_write_says_so(circle: Circle) -> None:
    fill(circle.folder, CODE)
    text = prompt("You accepted this task.", 1)
    turn = await circle.author.turn(text, WORK, without=("fs_write",))
    assert turn.result is not None
    assert turn.result["artifacts"] == []
    assert f"{REPORT} was not written" in str(turn.result["summary"])


async def test_sizes_of_files_that_are_no_python_are_counted(circle: Circle) -> None:
    fill(circle.folder, {"long.txt": "x\n" * 40, "short.txt": "x\n"})
    text = (
        "You accepted this task.\n\nTask: Describe the structure in STRUCTURE.md\n\nDescription:\n"
        "Show the tree of the workspace and its sizes. Write STRUCTURE.md.\n\n"
        "Acceptance criteria:\n1. STRUCTURE.md exists.\n"
        "2. The largest files are listed with their size in lines.\n\nCircle: crc_1"
    )
    turn = await circle.author.turn(text, WORK)
    assert turn.result is not None
    report = (circle.folder / "STRUCTURE.md").read_text()
    assert "| `long.txt` | 40 lines |" in report
    assert "short.txt" in report.partition("## Tree")[2]
