"""Read a text file in parts, whatever its size. Blocks: call it in a thread."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from gathering_skills.confined.contents import LARGEST_FILE, Checkpoint, chunks, looks_binary
from gathering_skills.confined.root import Root, check_regular
from gathering_skills.errors import ToolError

PART_BYTES = 44_000  # of JSON; a whole result has 64 KiB


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a file; `next_line` and `next_column` are where the rest begins, 0 without one."""

    content: str
    end_line: int
    line_count: int
    size_bytes: int
    sha256: str
    next_line: int
    next_column: int


@dataclass
class _Reader:
    """Takes lines one after the other, and keeps those that were asked for."""

    start_line: int
    start_column: int
    last_line: int
    room: int = PART_BYTES
    line: int = 0
    kept: list[str] = field(default_factory=list)
    end_line: int = 0
    rest: tuple[int, int] = (0, 0)

    def take(self, raw: bytes) -> None:
        """Take a line with its end."""
        self.line += 1
        if self.line < self.start_line or self.rest != (0, 0):
            return
        if self.line > self.last_line:
            self.rest = (self.line, 1)
            return
        text = raw.decode("utf-8", "replace")
        skipped = min(self.start_column - 1, len(text)) if self.line == self.start_line else 0
        fitting = _fitting(text[skipped:], self.room)
        if len(fitting) < len(text) - skipped:
            if self.kept and len(text) < PART_BYTES // 8:  # whole lines, unless they are long
                self.rest = (self.line, 1)
                return
            self.rest = (self.line, skipped + len(fitting) + 1)
        self.room -= _cost(fitting)
        self.kept.append(fitting)
        self.end_line = self.line


def read_part(
    root: Root, path: str, start: tuple[int, int], line_count: int, checkpoint: Checkpoint
) -> Part:
    """Return lines of a text file from a line and column on; ToolError for binary and huge ones."""
    reader = _Reader(*start, last_line=start[0] + line_count - 1)
    digest = hashlib.sha256()
    with root.file(path) as descriptor:
        size = check_regular(descriptor, path)
        if size > LARGEST_FILE:
            raise ToolError(
                f"{path!r} has {size} bytes; at most {LARGEST_FILE} are read. search_text finds "
                "lines in files up to 16 MiB"
            )
        pending, begun = b"", False
        for data in chunks(descriptor, checkpoint):
            if not begun and looks_binary(data):
                raise ToolError(f"{path!r} is a binary file of {size} bytes")
            begun = True
            digest.update(data)
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                reader.take(line + b"\n")
        if pending:
            reader.take(pending)
    next_line, next_column = reader.rest
    return Part(
        content="".join(reader.kept),
        end_line=reader.end_line,
        line_count=reader.line,
        size_bytes=size,
        sha256=digest.hexdigest(),
        next_line=next_line,
        next_column=next_column,
    )


def _cost(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode()) - 2


def _fitting(text: str, room: int) -> str:
    """Return as much of the beginning of a text as has room."""
    if _cost(text[: room + 1]) <= room and len(text) <= room:
        return text
    low, high = 0, min(len(text), room)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _cost(text[:middle]) <= room else (low, middle - 1)
    return text[:low]
