"""Look for files by name."""

from __future__ import annotations

from gathering_skills.confined.globs import Glob
from gathering_skills.confined.paths import normal, shown
from gathering_skills.inspector.pages import page, rest, whole
from gathering_skills.inspector.task import Answer, Task, Tour, counted, sentence


def run(task: Task) -> Answer:
    """Return the files whose path below the given folder fits a glob pattern."""
    wanted = task.arguments
    tour = Tour(task, wanted["path"])
    glob = Glob(wanted["pattern"])
    base = normal(wanted["path"])
    prefix = "" if base == "." else f"{base}/"
    files: list[Answer] = []
    for found in tour.files():
        if glob.matches(found.path) or glob.matches(found.path.removeprefix(prefix)):
            files.append({"path": shown(found.path), "size_bytes": found.entry.size_bytes})
            task.tell(f"{shown(found.path)}\n")
    chosen, following = page(files, wanted["offset"], wanted["limit"])
    said = f"{len(files)} of {counted(tour.file_count, 'file')} fit {wanted['pattern']!r}."
    more = rest(wanted["offset"], len(chosen), len(files), "files", following)
    return {
        "files": chosen,
        "file_count": len(files),
        "next_offset": following,
        "message": sentence(said, more, whole(cut=following > 0), *tour.remarks()),
    }
