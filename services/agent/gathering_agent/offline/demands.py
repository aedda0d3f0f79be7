"""What a criterion asks for, as far as rules can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gathering_agent.offline.topics import Topic, topics_of
from gathering_agent.offline.words import paths

_EXISTS = re.compile(r"\b(?:exists?|written|created|present|is there|handed in)\b", re.IGNORECASE)
_TOOLS_RUN = re.compile(
    r"\btools?\b[^.]*\b(?:run|ran|used|called)\b|\bwhat was run\b|\bcommands?\b", re.IGNORECASE
)
_GAPS = re.compile(
    r"\b(?:not covered|could not|cannot be|not examined|what was not|left out|limitations?)\b",
    re.IGNORECASE,
)
_LEAST = re.compile(
    r"\bat least (\d+|one|two|three|four|five|six|seven|eight|nine|ten)\b", re.IGNORECASE
)
_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_PARTS = {
    "file": r"\bfiles?\b|\bpaths?\b",
    "line": r"(?<!in )\blines?\b(?! of code)",
    "rule": r"\brules?\b|\bcodes?\b",
    "why": r"\bwhy\b|\breasons?\b|\bexplain",
}


@dataclass(frozen=True, slots=True)
class Demand:
    """One criterion. `parts` are what each entry has to name."""

    number: int
    text: str
    topics: tuple[Topic, ...]
    files: tuple[str, ...]
    parts: frozenset[str]
    least: int
    tools_run: bool
    gaps: bool

    @property
    def plain(self) -> bool:
        """Tell whether rules find nothing in it that they could check."""
        return not (self.topics or self.files or self.tools_run or self.gaps)


def demands_of(criteria: Sequence[str]) -> list[Demand]:
    """Read criteria."""
    return [_demand(number, text) for number, text in enumerate(criteria, 1)]


def _demand(number: int, text: str) -> Demand:
    parts = frozenset(n for n, p in _PARTS.items() if re.search(p, text, re.IGNORECASE))
    least = _LEAST.search(text)
    return Demand(
        number=number,
        text=text,
        topics=tuple(topics_of(text)),
        files=tuple(paths(text)) if _EXISTS.search(text) else (),
        parts=parts,
        least=_number(least[1]) if least else 0,
        tools_run=bool(_TOOLS_RUN.search(text)),
        gaps=bool(_GAPS.search(text)),
    )


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS.index(word.lower())
