"""Tell what a directory holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from posixpath import dirname

from gathering_skills.confined.paths import shown
from gathering_skills.inspector.pages import page
from gathering_skills.inspector.task import PYTHON, Answer, Task, Tour, counted, extension, sentence

_TOP = 20
_PACKAGES = 200


@dataclass
class _Tally:
    bytes_of: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, str]] = field(default_factory=list)
    with_init: set[str] = field(default_factory=set)
    python_files: int = 0
    python_lines: int = 0


def run(task: Task) -> Answer:
    """Return counts of files by type, the Python packages and the largest files."""
    tour = Tour(task, task.arguments["path"])
    tally = _Tally()
    for found in tour.files():
        size = found.entry.size_bytes
        tally.bytes_of[extension(found.path)] += size
        tally.sizes.append((size, found.path))
        if found.path.endswith(PYTHON):
            _count_python(tally, found.path, tour.content(found))
    return {
        "path": task.arguments["path"],
        "file_count": tour.file_count,
        "size_bytes": sum(tally.bytes_of.values()),
        "python_file_count": tally.python_files,
        "python_line_count": tally.python_lines,
        "file_types": [
            {"extension": shown(name), "file_count": count, "size_bytes": tally.bytes_of[name]}
            for name, count in tour.types.most_common(_TOP)
        ],
        "packages": page(_packages(tally.with_init), 0, _PACKAGES)[0],
        "largest_files": [
            {"path": shown(path), "size_bytes": size}
            for size, path in sorted(tally.sizes, key=lambda item: (-item[0], item[1]))[:_TOP]
        ],
        "message": sentence(_said(tour, tally), *tour.remarks()),
    }


def _count_python(tally: _Tally, path: str, content: bytes | None) -> None:
    tally.python_files += 1
    if path.endswith("/__init__.py"):
        tally.with_init.add(dirname(path))
    if content is not None:
        tally.python_lines += content.count(b"\n") + bool(content and content[-1:] != b"\n")


def _packages(with_init: set[str]) -> list[str]:
    """Return the topmost packages."""
    return sorted(shown(path) for path in with_init if dirname(path) not in with_init)


def _said(tour: Tour, tally: _Tally) -> str:
    if not tally.python_files:
        return tour.without_python("analyse as Python")
    return (
        f"{counted(tour.file_count, 'file')}, {tally.python_files} of them Python with "
        f"{counted(tally.python_lines, 'line')}."
    )
