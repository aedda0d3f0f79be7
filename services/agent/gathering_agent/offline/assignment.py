"""Read the prompts of tasks: sections with headings, as the orchestrator writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gathering_agent.offline.words import LONGEST, paths

_HEADINGS = (
    "Task", "Description", "Acceptance criteria", "Workspace", "Circle", "Earlier review",
    "Work to review", "Criteria results so far",
)  # fmt: skip
_HEADING = re.compile(rf"^({'|'.join(_HEADINGS)}):[ \t]*", re.MULTILINE)
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|[-*])\s+(.*)")
_ARTIFACT = re.compile(r"^\s*-\s+(\S.*?)\s*(?:\(sha256 ([0-9a-f]{64}).*)?$")
_ROUND = re.compile(r"\bRound (\d+)\b")
_WRITES = re.compile(
    r"\b(?:write|writes|written|create|produce|save|report|into|in)\b", re.IGNORECASE
)
_LONGEST_TITLE = 1_000
_LONGEST_CRITERION = 2_000
_MOST_CRITERIA = 100
_DEFAULT_REPORT = "REPORT.md"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was handed in; the hash is empty where none was told."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task as an agent is told it."""

    title: str
    description: str
    criteria: tuple[str, ...]
    workspace: str
    circle: str
    round: int
    earlier_review: str
    summary: str
    artifacts: tuple[Artifact, ...]

    @property
    def output(self) -> str:
        """Return the file that has to be written: the first that is named where writing is."""
        texts = (self.title, self.description, *self.criteria)
        named = [path for text in texts if _WRITES.search(text) for path in paths(text)]
        return next(iter(named or paths(" ".join(texts))), _DEFAULT_REPORT)


def is_assignment(text: str) -> bool:
    """Tell whether a text is the prompt of a task."""
    found = {match[1] for match in _HEADING.finditer(text)}
    return "Task" in found and len(found) > 1


def read(text: str) -> Assignment:
    """Read a prompt; sections that are absent are empty."""
    sections = _sections(text)
    summary, artifacts = _handed_in(sections.get("Work to review", ""))
    found = _ROUND.search(text[: text.find("Task:") + 1])
    return Assignment(
        title=sections.get("Task", "").strip()[:_LONGEST_TITLE],
        description=sections.get("Description", "").strip()[:LONGEST],
        criteria=tuple(_criteria(sections.get("Acceptance criteria", ""))),
        workspace=sections.get("Workspace", "").strip(),
        circle=sections.get("Circle", "").strip(),
        round=int(found[1]) if found else 1,
        earlier_review=sections.get("Earlier review", "").strip(),
        summary=summary,
        artifacts=artifacts,
    )


def _sections(text: str) -> dict[str, str]:
    """Return the text below each heading; a heading counts where it comes first."""
    found = list(_HEADING.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    sections: dict[str, str] = {}
    for match, end in zip(found, ends, strict=True):
        sections.setdefault(match[1], text[match.end() : end])
    return sections


def _criteria(section: str) -> list[str]:
    criteria: list[str] = []
    for line in section.splitlines():
        found = _NUMBERED.match(line)
        if found:
            criteria.append(found[1].strip())
        elif line.strip() and criteria:
            criteria[-1] += f" {line.strip()}"
        elif line.strip():
            criteria.append(line.strip())
    return [criterion[:_LONGEST_CRITERION] for criterion in criteria[:_MOST_CRITERIA]]


def _handed_in(section: str) -> tuple[str, tuple[Artifact, ...]]:
    summary, _, listed = section.partition("Artifacts:")
    artifacts = []
    for line in listed.splitlines():
        found = _ARTIFACT.match(line)
        if found and found[1] != "none":
            artifacts.append(Artifact(found[1], found[2] or ""))
    return summary.strip().removeprefix("Summary:").strip(), tuple(artifacts)
