"""Glob patterns over paths: `*`, `?`, `[...]` within a name, `**` across, `{a,b}` for either.

Not by one regular expression: many stars would make it try for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

_MOST_ALTERNATIVES = 64
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")


class Glob:
    """A pattern that stands for paths; without a slash it fits names in every folder.

    `anchored`: it stands for whole paths even without a slash.
    """

    def __init__(self, pattern: str, *, anchored: bool = False) -> None:
        self.pattern = pattern
        self._alternatives = [
            _parts(text, anchored=anchored) for text in _expanded(pattern.removeprefix("./"))
        ]

    def matches(self, path: str) -> bool:
        """Tell whether the pattern fits a relative path."""
        names = path.split("/")
        return any(_fits(parts, names) for parts in self._alternatives)


def any_matches(globs: Sequence[Glob], path: str) -> bool:
    """Tell whether one of the patterns fits."""
    return any(glob.matches(path) for glob in globs)


def _parts(text: str, *, anchored: bool) -> list[str]:
    # `docs/` means what is in the folder.
    parts = [*text.strip("/").split("/"), *(["**"] if text.endswith("/") else [])]
    floating = not anchored and "/" not in text.rstrip("/")
    return ["**", *parts] if floating else parts


def _expanded(text: str) -> Iterator[str]:
    """Yield the text with each choice of its braces, innermost first; at most so many."""
    pending, count = [text], 0
    while pending and count < _MOST_ALTERNATIVES:
        current = pending.pop()
        found = _BRACES.search(current)
        if found is None or len(pending) > _MOST_ALTERNATIVES:
            count += 1
            yield current
            continue
        head, tail = current[: found.start()], current[found.end() :]
        pending.extend(f"{head}{choice}{tail}" for choice in reversed(found[1].split(",")))


def _fits(parts: Sequence[str], names: Sequence[str]) -> bool:
    """Match part by part: which prefixes of `parts` can stand for the names so far."""
    reached = {0} | _skips(parts, 0)
    for name in names:
        after: set[int] = set()
        for place in reached:
            if place == len(parts):
                continue
            if parts[place] == "**":
                after |= {place} | _skips(parts, place)
            elif fnmatchcase(name, parts[place]):
                after |= {place + 1} | _skips(parts, place + 1)
        reached = after
    return len(parts) in reached


def _skips(parts: Sequence[str], place: int) -> set[int]:
    """Return the places behind each `**` that begins here and stands for nothing."""
    found = set()
    while place < len(parts) and parts[place] == "**":
        place += 1
        found.add(place)
    return found
