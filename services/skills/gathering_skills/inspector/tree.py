"""Draw what lies in a directory and below as an indented tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gathering_skills.confined.paths import shown
from gathering_skills.confined.root import Kind
from gathering_skills.confined.walking import Found, Walker
from gathering_skills.inspector.pages import whole
from gathering_skills.inspector.task import MOST_FILES, Answer, Task, sentence

_TREE_BYTES = 40_000
_MARKS = {Kind.DIRECTORY: "/", Kind.LINK: " (link)", Kind.OTHER: " (no file)"}


@dataclass
class _Drawn:
    """A tree as text."""

    limit: int
    tell: Callable[[str], None]
    lines: list[str] = field(default_factory=list)
    file_count: int = 0
    directory_count: int = 0
    room: int = _TREE_BYTES

    @property
    def count(self) -> int:
        """Return how many entries were met."""
        return self.file_count + self.directory_count

    def draw(self, found: Found) -> None:
        """Count an entry, and add its line where there is room."""
        directory = found.entry.kind is Kind.DIRECTORY
        self.directory_count += directory
        self.file_count += not directory
        indent = "  " * max(0, found.depth - 1)
        line = indent + shown(found.entry.name) + _MARKS.get(found.entry.kind, "")
        self.tell(f"{line}\n")
        cost = len(line.encode()) + 3
        if len(self.lines) < self.limit and cost <= self.room:
            self.lines.append(line)
            self.room -= cost
        else:
            self.room = 0  # no later entry, though it may be shorter


def run(task: Task) -> Answer:
    """Return the tree below a path, without what is passed over."""
    wanted = task.arguments
    drawn = _Drawn(wanted["limit"], task.tell)
    cut = ""
    for found in Walker(task.root, lambda: None).walk(wanted["path"], wanted["depth"]):
        drawn.draw(found)
        if task.late or drawn.count >= MOST_FILES:
            cut = f"Only the first {drawn.count} entries were counted."
            break
    hidden = drawn.count - len(drawn.lines)
    said = ""
    if hidden:
        said = f"{hidden} more entries are not shown: name a folder or a smaller depth."
    elif not drawn.lines:
        said = "There is nothing, or nothing that is not passed over."
    return {
        "tree": "\n".join(drawn.lines),
        "file_count": drawn.file_count,
        "directory_count": drawn.directory_count,
        "message": sentence(cut, said, whole(cut=hidden > 0)),
    }
