"""Read what a docstring says of a function and of each of its arguments."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

_ARGUMENT = re.compile(r"^ {4}(\w+): (.*)$")


@dataclass(frozen=True, slots=True)
class Described:
    """The text before `Args:`, and the text for each argument in it."""

    description: str
    arguments: dict[str, str]


def described(docstring: str | None) -> Described:
    """Take a docstring apart; lines of a paragraph are joined."""
    text, _, listed = inspect.cleandoc(docstring or "").partition("\nArgs:\n")
    arguments: dict[str, str] = {}
    current = ""
    for line in listed.splitlines():
        if found := _ARGUMENT.match(line):
            current = found[1]
            arguments[current] = found[2]
        elif current and line.strip():
            arguments[current] += f" {line.strip()}"
    return Described(_joined(text), arguments)


def _joined(text: str) -> str:
    return "\n".join(" ".join(part.split()) for part in text.split("\n\n") if part.strip())
