"""Look at directories. Blocks: call it in a thread."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel

from gathering_skills.confined.contents import (
    LARGEST_FILE,
    Checkpoint,
    chunks,
    looks_binary,
    sha256_of,
)
from gathering_skills.confined.paths import normal, shown
from gathering_skills.confined.root import Entry, Kind, Root, entries_of, names_in
from gathering_skills.inspector.pages import page, rest

_OLDEST, _NEWEST = 0.0, 253_402_300_799.0  # what a date can say: 1970 to 9999


class EntryInfo(BaseModel):
    """An entry of a directory."""

    name: str
    path: str
    kind: str
    size_bytes: int
    modified: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A part of a directory's entries."""

    entries: list[EntryInfo]
    entry_count: int
    next_offset: int
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a path."""

    entry: Entry | None
    modified: str = ""
    line_count: int = 0
    sha256: str = ""


def list_folder(root: Root, path: str, offset: int, limit: int) -> Listed:
    """Return entries of a directory, by name."""
    with root.folder(path) as directory:
        names = names_in(directory)
        # One more than are told, so that the page knows of it.
        wanted = names[offset : offset + limit + 1]
        found = list(entries_of(directory, normal(path), wanted))
    chosen, more = page([_told(entry).model_dump() for entry in found], 0, limit)
    following = offset + more if more else 0
    return Listed(
        entries=[EntryInfo(**entry) for entry in chosen],
        entry_count=len(names),
        next_offset=following,
        message=rest(offset, len(chosen), len(names), "entries", following),
    )


def facts_of(root: Root, path: str, checkpoint: Checkpoint) -> Facts:
    """Return what is known of a path."""
    entry = root.entry(path)
    if entry is None:
        return Facts(None)
    if entry.kind is not Kind.FILE or entry.size_bytes > LARGEST_FILE:
        return Facts(entry, modified=_time(entry.modified))
    with root.file(path) as descriptor:
        return Facts(
            entry,
            modified=_time(entry.modified),
            line_count=_lines(descriptor, checkpoint),
            sha256=sha256_of(descriptor, checkpoint),
        )


def _told(entry: Entry) -> EntryInfo:
    return EntryInfo(
        name=shown(entry.name),
        path=shown(entry.path),
        kind=entry.kind,
        size_bytes=entry.size_bytes,
        modified=_time(entry.modified),
    )


def _time(seconds: float) -> str:
    within = min(max(seconds, _OLDEST), _NEWEST)
    return datetime.fromtimestamp(within, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _lines(descriptor: int, checkpoint: Checkpoint) -> int:
    count, last = 0, b""
    for data in chunks(descriptor, checkpoint):
        if not last and looks_binary(data):
            return 0
        count += data.count(b"\n")
        last = data[-1:]
    return count + (last not in {b"", b"\n"})
