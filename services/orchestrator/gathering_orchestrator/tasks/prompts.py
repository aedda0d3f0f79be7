"""What agents are told and asked for: the texts and the JSON Schemas of their results.

Headings and their order are part of the interface: models, the offline one too, find their way by
them. A text follows from stored rows alone, so that a repeat after a crash is the same request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import MappingProxyType

from gathering_orchestrator.tasks.models import Artifact, Json, Review, Task

LONGEST = 100_000  # characters that a turn takes
# What people and models wrote may hold a line like a heading; indented, it is none.
_HEADING = re.compile(
    r"^(?=(?:Task|Description|Acceptance criteria|Workspace|Circle|Earlier review|Work to review)"
    r"\s*:)",
    re.MULTILINE | re.IGNORECASE,
)
_LONGEST_REVIEW = 12_000
_LONGEST_SUMMARY = 5_000
_LONGEST_LIST = 8_000

WORK_SCHEMA: Json = MappingProxyType(
    {
        "type": "object",
        "properties": {
            "summary": {
                "type": "string",
                "description": "What was done and found, in a few sentences.",
            },
            "artifacts": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Paths of the files that are the result, relative to the workspace.",
            },
        },
        "required": ["summary"],
        "additionalProperties": False,
    }
)
REVIEW_SCHEMA: Json = MappingProxyType(
    {
        "type": "object",
        "properties": {
            "verdict": {
                "type": "string",
                "enum": ["approved", "changes_requested", "rejected"],
                "description": "approved only if every criterion is met; rejected if another round"
                " would not help.",
            },
            "comment": {"type": "string", "description": "What the author needs to know."},
            "criteria": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "criterion": {"type": "string"},
                        "met": {"type": "boolean"},
                        "evidence": {
                            "type": "string",
                            "description": "What shows it: file, line, figure or quotation.",
                        },
                    },
                    "required": ["criterion", "met", "evidence"],
                    "additionalProperties": False,
                },
                "description": "Each acceptance criterion, in order.",
            },
        },
        "required": ["verdict", "comment", "criteria"],
        "additionalProperties": False,
    }
)

_WORK = (
    "You accepted this task. Do the work with your tools. When it is done, call submit_result with"
    " a summary of what you did and the paths of the files that you made."
)
_WORK_AGAIN = (
    "A reviewer asked for changes to your work on this task. Make them with your tools. When they"
    " are done, call submit_result again with a summary and the paths of all files of the result."
)
_REVIEW = (
    "A colleague handed in work on this task. Review it: look at the work itself with your tools,"
    " check each acceptance criterion, and change nothing. Then call submit_result with verdict,"
    " comment and, for each criterion in order, whether it is met and the evidence."
)


def work(task: Task, round: int, earlier: Review | None) -> str:
    """Return what the author is told at the beginning of a round; `earlier` asked for changes."""
    opening = _WORK if earlier is None else _WORK_AGAIN
    title = f"Round {round}." if round > 1 else ""
    return _bounded([f"{opening} {title}".strip(), *_about(task), *_earlier(earlier)])


def review(
    task: Task, artifacts: Sequence[Artifact], earlier: Review | None, complaint: str = ""
) -> str:
    """Return what a reviewer is told; `complaint` says why its last result cannot be used."""
    again = f"Your last result cannot be used: {complaint}." if complaint else ""
    return _bounded(
        [
            f"{_REVIEW} {again}".strip(),
            *_about(task),
            *_earlier(earlier),
            _handed_in(task, artifacts),
        ]
    )


def _about(task: Task) -> list[str]:
    fields = task.fields
    parts = [f"Task: {_line(fields.title)}"]
    if fields.description:
        parts.append(f"Description:\n{_quoted(fields.description)}")
    if fields.acceptance_criteria:
        parts.append(f"Acceptance criteria:\n{_numbered(fields.acceptance_criteria)}")
    if fields.workspace_id:
        parts.append(f"Workspace: {fields.workspace_id}")
    return [*parts, f"Circle: {fields.circle_id}"]


def _earlier(earlier: Review | None) -> list[str]:
    if earlier is None or earlier.judgement is None:
        return []
    found = earlier.judgement
    lines = [f"Comment: {found.comment or 'none'}"]
    lines += [
        f"Not met: {one.criterion}\nEvidence: {one.evidence}"
        for one in found.criteria
        if not one.met
    ]
    return ["Earlier review:\n" + _clipped(_quoted("\n".join(lines)), _LONGEST_REVIEW)]


def _handed_in(task: Task, artifacts: Sequence[Artifact]) -> str:
    files = "\n".join(
        f"- {_line(one.path)} (sha256 {one.sha256}, {one.size_bytes} bytes)" for one in artifacts
    )
    return (
        "Work to review:\n"
        f"Summary: {_clipped(_quoted(task.summary), _LONGEST_SUMMARY) or 'none'}\n"
        f"Artifacts:\n{_clipped(files, _LONGEST_LIST) or '- none'}"
    )


def _numbered(lines: Iterable[str]) -> str:
    return "\n".join(f"{number}. {_line(line)}" for number, line in enumerate(lines, 1))


def _line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def _quoted(text: str) -> str:
    return _HEADING.sub(" ", text)


def _clipped(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    mark = "\n[cut]"
    return text[: longest - len(mark)] + mark


def _bounded(parts: Iterable[str]) -> str:
    return _clipped("\n\n".join(part for part in parts if part), LONGEST)
