"""What a job is given, and the files that it goes through."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from gathering_skills.confined.contents import read_up_to
from gathering_skills.confined.paths import shown
from gathering_skills.confined.root import Root
from gathering_skills.confined.walking import Found, Walker
from gathering_skills.errors import ToolError

Answer = dict[str, Any]

LARGEST_SOURCE = 4 * 1024 * 1024
MOST_FILES = 100_000
PYTHON = (".py", ".pyi")
_TOLD_TYPES = 6
_TOLD_FILES = 5


@dataclass(frozen=True)
class Task:
    """A job; `until` is when it should have come to an end, in seconds of `time.monotonic()`.

    `scratch` is an empty folder, which whoever started this process removes. `tell` takes lines
    that are found, all of them, as they are found.
    """

    root: Root
    arguments: Mapping[str, Any]
    ruff: str
    scratch: str
    until: float
    tell: Callable[[str], None] = lambda text: None

    @property
    def late(self) -> bool:
        """Tell whether the time is up; then a job answers with what it has, and says so."""
        return time.monotonic() > self.until


def _no_checkpoint() -> None:
    """Let the walk go on; it is cut between two files."""


@dataclass
class Tour:
    """One walk over the files below a path; counts what it meets and what it left out."""

    task: Task
    path: str
    file_count: int = 0
    skipped_count: int = 0  # too large or not readable
    cut: bool = False  # not all files were met
    types: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)  # by name, each with why
    _walker: Walker | None = None

    def files(self) -> Iterator[Found]:
        """Yield the files, until there are too many or the time is up."""
        self._walker = Walker(self.task.root, _no_checkpoint)
        for found in self._walker.files(self.path):
            if self.task.late or self.file_count >= MOST_FILES:
                self.cut = True
                return
            self.file_count += 1
            self.types[extension(found.path)] += 1
            yield found

    def sources(self, suffixes: tuple[str, ...] = PYTHON) -> Iterator[tuple[str, bytes]]:
        """Yield the files with these endings and what they hold."""
        for found in self.files():
            if found.path.endswith(suffixes):
                content = self.content(found)
                if content is not None:
                    yield found.path, content

    def content(self, found: Found, limit: int = LARGEST_SOURCE) -> bytes | None:
        """Return what a file holds; None, and counted, for one too large or not readable."""
        if found.entry.size_bytes <= limit:
            try:
                descriptor = found.open()
            except (OSError, ToolError):
                self.skipped_count += 1
                return None
            try:
                content = read_up_to(descriptor, limit + 1)
            except OSError:
                content = b""
                self.skipped_count += 1
            finally:
                os.close(descriptor)
            if len(content) <= limit:
                return content
        self.skipped_count += 1
        return None

    def leave_out(self, path: str, why: str) -> None:
        """Count a file that could not be looked at, and name it."""
        self.skipped_count += 1
        self.left_out.append(f"{path} ({why})")

    def remarks(self) -> list[str]:
        """Return what has to be said about what was left out."""
        said = []
        if self.cut:
            said.append(
                f"Only the first {counted(self.file_count, 'file')} were looked at; "
                "name a smaller part."
            )
        if unnamed := self.skipped_count - len(self.left_out):
            said.append(f"Left out, too large or not readable: {counted(unnamed, 'file')}.")
        if self.left_out:
            more = ", ..." if len(self.left_out) > _TOLD_FILES else ""
            said.append(f"Left out: {', '.join(self.left_out[:_TOLD_FILES])}{more}.")
        if self._walker and self._walker.unreadable_count:
            folders = counted(self._walker.unreadable_count, "folder")
            said.append(f"Left out, not readable or too deep: {folders}.")
        return said

    def without_python(self, what: str) -> str:
        """Return what is said where there is no Python."""
        if not self.file_count:
            return f"There is no file below {shown(self.path)!r}, so there is nothing to {what}."
        return (
            f"There is no Python file below {shown(self.path)!r}, so there is nothing to {what}: "
            f"it holds {counted(self.file_count, 'file')} ({self._told_types()})."
        )

    def _told_types(self) -> str:
        common = self.types.most_common(_TOLD_TYPES)
        told = ", ".join(f"{count} {shown(name) or 'without ending'}" for name, count in common)
        return f"{told}, ..." if len(self.types) > _TOLD_TYPES else told


def extension(path: str) -> str:
    """Return the ending of a file's name, in lower case and with its dot."""
    return PurePosixPath(path).suffix.lower()


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sentence(*parts: str) -> str:
    """Join what is to be said."""
    return " ".join(part for part in parts if part)
