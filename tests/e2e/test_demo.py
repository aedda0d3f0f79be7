"""The main job by the command: a circle reviews real code, and what it reports is so."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import codebase
from tests.e2e.mesh import LocalMesh

Json = dict[str, Any]
# `path:line` and a rule such as F401 somewhere in one line of the report.
_PLACE = re.compile(r"(?P<path>[\w./-]+\.py)`?[:|, ]+\s*(?:line )?(?P<line>\d+)")
_RULE = re.compile(r"\b(?P<rule>[A-Z]{1,4}\d{2,4})\b")


@dataclass(frozen=True)
class Story:
    """What a demonstration told: its events in order, its tasks at the end, the report."""

    code: int
    events: list[Json]
    tasks: list[Json]
    report: str
    root: Path

    @property
    def main(self) -> Json:
        """The task of the review."""
        return self.tasks[-1]

    @property
    def messages(self) -> list[str]:
        """What the tasks say of their states."""
        return [str(task.get("state_message") or task["state"]) for task in self.tasks]

    def of_main(self, *types: str) -> list[Json]:
        """Return the payloads of the main task's events of these types, in order."""
        task_id = self.main["task_id"]
        return [
            event[event["type"]]
            for event in self.events
            if event["type"] in types and event[event["type"]].get("task_id") == task_id
        ]


def play(mesh: LocalMesh, root: Path) -> Story:
    """Run the demonstration on a directory."""
    ended = mesh.command("demo", "--workspace", str(root), "--json", timeout=235)
    assert "Traceback" not in ended.err, ended.err
    lines = [json.loads(line) for line in ended.out.splitlines()]
    report = root / "REVIEW.md"
    return Story(
        ended.code,
        [line for line in lines if "commit_time" in line],
        [line for line in lines if "acceptance_criteria" in line],
        report.read_text() if report.exists() else "",
        root,
    )


@pytest.fixture(scope="module")
def story(mesh: LocalMesh, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Return the demonstration on the code base with known faults."""
    return play(mesh, codebase.write(tmp_path_factory.mktemp("review")))


def test_demo_ends_well(story: Story) -> None:
    assert story.code == 0, story.messages
    assert [task["state"] for task in story.tasks] == ["TASK_STATE_COMPLETED"] * 2


def test_best_candidate_is_busy_and_the_next_accepts(story: Story) -> None:
    offers = story.of_main("task_offered")
    declined = story.of_main("offer_declined")
    accepted = story.of_main("offer_accepted")
    assert [each["reason"] for each in declined] == ["at_capacity"]
    assert declined[0]["agent_id"] == offers[0]["agent_id"]
    assert [each["agent_id"] for each in accepted] == [offers[1]["agent_id"]]
    scores = [each["score"] for each in offers]
    assert scores == sorted(scores, reverse=True)
    for offer in offers:
        parts = sum(part.get("value", 0) * part["weight"] for part in offer["score_parts"])
        assert offer["score"] == pytest.approx(parts, abs=1e-6)


def test_candidate_that_declined_was_busy_indeed(story: Story) -> None:
    """It had accepted the other task, and that one had not ended."""
    busy = story.of_main("offer_declined")[0]["agent_id"]
    small = story.tasks[0]["task_id"]
    moments = {
        event["type"]: event["commit_time"]
        for event in story.events
        if event[event["type"]].get("task_id") == small
    }
    declined = next(
        event["commit_time"]
        for event in story.events
        if event["type"] == "offer_declined" and event["offer_declined"]["agent_id"] == busy
    )
    assert moments["offer_accepted"] < declined < moments["task_completed"]


def test_reviewer_asks_for_changes_and_then_approves(story: Story) -> None:
    verdicts = [each["verdict"] for each in story.of_main("review_completed")]
    assert verdicts[0] == "changes_requested"
    assert verdicts[-1] == "approved"
    author = story.of_main("offer_accepted")[0]["agent_id"]
    reviewers = {each["reviewer_agent_id"] for each in story.of_main("review_requested")}
    assert author not in reviewers
    reviews = story.main["reviews"]
    first = {each["criterion"]: each.get("met", False) for each in reviews[0]["criteria"]}
    last = {each["criterion"]: each.get("met", False) for each in reviews[-1]["criteria"]}
    assert list(first) == story.main["acceptance_criteria"] == list(last)
    assert not all(first.values())
    assert all(last.values())
    assert all(each["evidence"] for review in reviews for each in review["criteria"])


def test_reviewer_used_tools_of_its_own(story: Story) -> None:
    reviewer = story.of_main("review_requested")[0]["reviewer_agent_id"]
    tools = {
        event["execution_finished"]["tool"]
        for event in story.events
        if event["type"] == "execution_finished"
        and event["execution_finished"].get("agent_id") == reviewer
    }
    assert tools


def test_artifact_is_the_file_in_the_workspace(story: Story) -> None:
    artifact = next(each for each in story.main["artifacts"] if each["path"] == "REVIEW.md")
    content = (story.root / "REVIEW.md").read_bytes()
    assert artifact["sha256"] == hashlib.sha256(content).hexdigest()
    assert int(artifact["size_bytes"]) == len(content)
    assert artifact["sha256"] in story.of_main("task_submitted")[-1]["artifact_hashes"]


def test_events_come_in_order_and_none_is_missing(story: Story) -> None:
    assert len({event["id"] for event in story.events}) == len(story.events)
    for source in {event["source"] for event in story.events}:
        positions = [int(e["position"]) for e in story.events if e["source"] == source]
        assert positions == sorted(positions)
    types = [event["type"] for event in story.events]
    for needed in ("turn_started", "turn_step_completed", "execution_finished", "memory_created"):
        assert needed in types, needed


def test_findings_of_the_report_are_where_ruff_sees_them(story: Story) -> None:
    found = set(findings(story.report))
    assert found, story.report
    assert found <= by_hand(story.root)
    assert found >= codebase.FINDINGS


def test_report_names_the_complex_function_the_large_file_and_the_cycle(story: Story) -> None:
    assert codebase.COMPLEX in story.report
    assert codebase.COMPLEX_FILE in story.report
    assert codebase.LARGE_FILE in story.report
    assert "1200" in story.report.replace(",", "")
    cycles = [line for line in story.report.splitlines() if "cycle" in line.lower()]
    assert cycles
    names = story.report.replace("/", ".")
    assert all(module in names for module in codebase.CYCLE)


def findings(report: str) -> Iterator[tuple[str, int, str]]:
    """Yield file, line and rule of each lint finding of a report."""
    for line in report.splitlines():
        place, rule = _PLACE.search(line), _RULE.search(line)
        if place and rule:
            yield place["path"], int(place["line"]), rule["rule"]


def by_hand(root: Path) -> set[tuple[str, int, str]]:
    """Return what ruff itself reports, with every rule that it has."""
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "ALL",
         "--preview", "--output-format", "json", str(root)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return {
        (str(Path(each["filename"]).relative_to(root)), each["location"]["row"], each["code"])
        for each in json.loads(done.stdout)
    }


@pytest.fixture(scope="module")
def own_folder() -> Iterator[Path]:
    """Return a folder that PostgreSQL's user may enter, also when we are root."""
    with tempfile.TemporaryDirectory(prefix="gathering-demo-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def test_directory_without_python_is_reported_as_such_by_a_mesh_started_for_it(
    own_folder: Path, tmp_path: Path
) -> None:
    """No mesh is known: the command starts one, and stops it when it is done."""
    root = tmp_path / "prose"
    root.mkdir()
    (root / "notes.txt").write_text("Nothing to lint here.\n")
    unknown = LocalMesh(own_folder / "home", 0)
    story = play(unknown, root)
    assert story.code == 0, story.messages
    assert unknown.command("status").code == 1
    assert not unknown.status.supervisor.alive()
    assert all(part.pid == 0 for part in unknown.status.parts)
    assert list(findings(story.report)) == []
    assert re.search(r"no python|cannot|could not|nothing", story.report, re.IGNORECASE)


def test_directory_that_is_none_is_said_in_words(mesh: LocalMesh, tmp_path: Path) -> None:
    ended = mesh.command("demo", "--workspace", str(tmp_path / "nowhere"))
    assert ended.code == 2
    assert "does not exist" in ended.err
    assert "Traceback" not in ended.err
