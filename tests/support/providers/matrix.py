"""What each provider is tested for: cells, each covered by a test or said not to apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from tests.support.providers.kinds import KINDS

Test = TypeVar("Test", bound=Callable[..., Any])
OFFLINE = "offline"
PROVIDERS = (*KINDS, OFFLINE)
CELLS = (
    "plain text",
    "streamed",
    "parallel tools over several rounds",
    "structured output",
    "image input",
    "broken tool arguments",
    "thoughts given back",
    "every stop reason",
    "usage, cached tokens and cost",
    "400",
    "401",
    "429 with Retry-After",
    "500",
    "overload",
    "overload in mid-stream",
    "time-out before the first byte",
    "time-out in mid-stream",
    "cut stream",
    "malformed chunk",
    "context overflow",
    "broken HTTP",
    "request not taken",
    "hung up without an answer",
    "not reachable",
    "cancelled",
)
_NO_NETWORK = "answers in this process: there is no network that could fail"
_NO_THOUGHTS = "tells no thoughts in chat completions"
ABSENT: dict[tuple[str, str], str] = {
    ("openai", "thoughts given back"): _NO_THOUGHTS,
    (OFFLINE, "thoughts given back"): "has none",
    (OFFLINE, "image input"): "takes none, and says so in the catalogue",
    (OFFLINE, "broken tool arguments"): "writes its arguments itself",
    (OFFLINE, "every stop reason"): "ends its answers in one way, see plain text",
    **{(OFFLINE, cell): _NO_NETWORK for cell in CELLS[CELLS.index("400") :]},
}
COVERED: dict[tuple[str, str], str] = {}


def cell(name: str, *only: str) -> Callable[[Test], Test]:
    """Mark a test as that of a cell: for all kinds to which it applies, or some.

    Recorded kinds record what the server says and replay it without the server; a failure passes
    through and is not recorded.
    """
    names = only or tuple(one for one in KINDS if (one, name) not in ABSENT)

    def mark(test: Test) -> Test:
        for one in names:
            COVERED[one, name] = test.__name__
        if only == (OFFLINE,):
            return test
        kinds = [pytest.param(KINDS[one], id=one) for one in names]
        marked: Test = pytest.mark.parametrize("kind", kinds)(test)
        return marked

    return mark


def table() -> str:
    """Return the table as Markdown."""
    lines = [f"| | {' | '.join(PROVIDERS)} |", "|---|" + "---|" * len(PROVIDERS)]
    reasons: list[str] = []
    for name in CELLS:
        marks = [_mark(one, name, reasons) for one in PROVIDERS]
        lines.append(f"| {name} | {' | '.join(marks)} |")
    notes = [f"({place}) {reason}." for place, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes])


def _mark(provider: str, name: str, reasons: list[str]) -> str:
    if (provider, name) in COVERED:
        return "yes"
    reason = ABSENT.get((provider, name))
    if reason is None:
        return "**missing**"
    if reason not in reasons:
        reasons.append(reason)
    return f"({reasons.index(reason) + 1})"
