"""Walk a tree in the order of names, from open directory to open directory. Blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from gathering_skills.confined.contents import Checkpoint
from gathering_skills.confined.ignored import FOLDERS, Ignored
from gathering_skills.confined.paths import normal
from gathering_skills.confined.root import (
    Entry,
    Kind,
    Root,
    check_regular,
    entries_of,
    entry_at,
    explained,
    names_in,
)
from gathering_skills.errors import NoSuchFile

DEEPEST = 100  # folders within each other: each holds a descriptor while it is walked
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of the tree; it can be opened until the walk goes on."""

    entry: Entry
    depth: int  # 1: directly in the folder that is walked
    directory: int

    @property
    def path(self) -> str:
        """Return the path relative to the workspace."""
        return self.entry.path

    def open(self) -> int:
        """Open the file, which must be a regular one still; OSError or ToolError otherwise."""
        descriptor = os.open(self.entry.name, _READ, dir_fd=self.directory)
        try:
            check_regular(descriptor, self.path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class Walker:
    """Walks a workspace; links are shown and not followed, other devices likewise."""

    def __init__(self, root: Root, checkpoint: Checkpoint, *, everything: bool = False) -> None:
        self._root = root
        self._checkpoint = checkpoint
        self._everything = everything
        self.unreadable_count = 0  # folders that could not be read, or lie too deep

    def walk(self, path: str, depth: int = DEEPEST) -> Iterator[Found]:
        """Yield what lies in a folder and below, folders before what they hold; a file itself."""
        plain = normal(path)
        entry = self._root.entry(plain)
        if entry is None:
            raise NoSuchFile(path)
        if entry.kind is Kind.FILE:
            folder = plain.rpartition("/")[0] or "."
            with self._root.folder(folder) as directory, explained(plain):
                yield Found(entry_at(directory, entry.name, plain), 0, directory)
            return
        with self._root.folder(plain) as directory:
            yield from self._below(directory, plain, 1, depth, self._rules(plain))

    def files(self, path: str) -> Iterator[Found]:
        """Yield the regular files."""
        return (found for found in self.walk(path) if found.entry.kind is Kind.FILE)

    def _below(
        self, directory: int, path: str, depth: int, deepest: int, rules: Ignored | None
    ) -> Iterator[Found]:
        for entry in entries_of(directory, path, names_in(directory)):
            self._checkpoint()
            if self._hidden(entry, rules):
                continue
            yield Found(entry, depth, directory)
            if entry.kind is Kind.DIRECTORY and depth < deepest:
                yield from self._into(directory, entry, depth, deepest, rules)
            elif entry.kind is Kind.DIRECTORY and depth == DEEPEST:
                self.unreadable_count += 1

    def _into(
        self, directory: int, entry: Entry, depth: int, deepest: int, rules: Ignored | None
    ) -> Iterator[Found]:
        try:
            below = os.open(entry.name, _FOLDER, dir_fd=directory)
        except OSError:
            self.unreadable_count += 1
            return
        try:
            within = rules.within(below, entry.path) if rules else None
            yield from self._below(below, entry.path, depth + 1, deepest, within)
        finally:
            os.close(below)

    def _hidden(self, entry: Entry, rules: Ignored | None) -> bool:
        if self._everything:
            return False
        folder = entry.kind is Kind.DIRECTORY
        if folder and entry.name in FOLDERS:
            return True
        return rules is not None and rules.hides(entry.path, folder=folder)

    def _rules(self, path: str) -> Ignored | None:
        """Return the rules that hold in a folder, from the top of the workspace down to it."""
        if self._everything:
            return None
        rules = Ignored.at_top(self._root.descriptor)
        if rules is None or path == ".":
            return rules
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            with self._root.folder(folder) as directory:
                rules = rules.within(directory, folder)
        return rules
