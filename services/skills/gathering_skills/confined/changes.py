"""Change files so that doing it twice leads to the same end. Blocks: call it in a thread."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress

from gathering_skills.confined import kernel
from gathering_skills.confined.contents import Checkpoint, sha256_of
from gathering_skills.confined.paths import OWN_PREFIX
from gathering_skills.confined.root import Kind, Root, entry_at, explained, make_folder
from gathering_skills.errors import ToolError

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Draft:
    """A file written beside its place, which it takes at `publish`.

    Its name is that of the execution and its attempt, so that a second run finds and removes what
    a killed one left behind, and none takes what another is writing.
    """

    def __init__(self, root: Root, path: str, execution_id: str, attempt: int) -> None:
        self._root, self._path = root, path
        self._directory, self._name = -1, ""
        self._drafts = [f"{OWN_PREFIX}{execution_id}-{n}" for n in range(1, attempt + 1)]

    def write(self, data: bytes, expected_sha256: str, checkpoint: Checkpoint) -> None:
        """Write the content durably; ToolError if the file is not the one that was expected."""
        self._directory, self._name = self._root.open_parent(self._path, create=True)
        with explained(self._path):
            mode = self._mode()
            if expected_sha256:
                self._expect(expected_sha256, hashlib.sha256(data).hexdigest(), checkpoint)
            self._discard()
            descriptor = os.open(self._drafts[-1], _NEW, 0o600, dir_fd=self._directory)
            try:
                _write_all(descriptor, data, checkpoint)
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def publish(self) -> None:
        """Take the place, in one step and durably."""
        with explained(self._path):
            kernel.rename(self._directory, self._drafts[-1], self._directory, self._name)
            os.fsync(self._directory)

    def close(self) -> None:
        """Remove what was not published, and give the descriptor back."""
        directory = self._directory
        if directory < 0:
            return
        try:
            self._discard()
        finally:
            self._directory = -1
            os.close(directory)

    def _discard(self) -> None:
        for name in self._drafts:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._directory)

    def _mode(self) -> int:
        """Return the mode of the file that is replaced, if it is a regular one, or the usual."""
        try:
            found = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return 0o644
        if stat.S_ISLNK(found.st_mode):
            self._root.refuse_link(self._path)
        if not stat.S_ISREG(found.st_mode):
            raise ToolError(f"{self._path!r} is no regular file")
        return stat.S_IMODE(found.st_mode) & 0o777

    def _expect(self, expected: str, wanted: str, checkpoint: Checkpoint) -> None:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self._name, flags, dir_fd=self._directory)
        except FileNotFoundError:
            raise ToolError(f"{self._path!r} does not exist any more") from None
        try:
            found = sha256_of(descriptor, checkpoint)
        finally:
            os.close(descriptor)
        if found not in {expected, wanted}:  # `wanted`: an interrupted run has written it
            raise ToolError(
                f"{self._path!r} was changed meanwhile: its sha256 is {found}; read it again"
            )


def make_directory(root: Root, path: str) -> bool:
    """Create a directory and those above it; tell whether it was missing."""
    with root.parent(path, create=True) as (directory, name), explained(path):
        if make_folder(directory, name):
            return True
        if entry_at(directory, name, path).kind is not Kind.DIRECTORY:
            raise ToolError(f"{path!r} exists and is no directory")
        return False


def move(root: Root, source: str, destination: str, *, overwrite: bool, repeated: bool) -> None:
    """Rename; a `repeated` run whose source is gone and destination there has nothing to do."""
    with (
        root.parent(source) as (from_folder, from_name),
        root.parent(destination, create=True) as (to_folder, to_name),
    ):
        if repeated and not _exists(from_folder, from_name) and _exists(to_folder, to_name):
            return
        with explained(source):
            entry_at(from_folder, from_name, source)
        with explained(destination):
            kernel.rename(from_folder, from_name, to_folder, to_name, replace=overwrite)
            os.fsync(to_folder)
            os.fsync(from_folder)


def delete(root: Root, path: str, *, recursive: bool) -> int:
    """Remove a file, a link or a directory; return how many entries went, 0 if none was there."""
    with root.parent(path) as (directory, name), explained(path):
        try:
            kind = entry_at(directory, name, path).kind
        except FileNotFoundError:
            return 0
        if kind is not Kind.DIRECTORY:
            os.unlink(name, dir_fd=directory)
            count = 1
        elif recursive:
            count = _count(directory, name)
            shutil.rmtree(name, dir_fd=directory)  # safe against links that are swapped in
        else:
            os.rmdir(name, dir_fd=directory)
            count = 1
        os.fsync(directory)
        return count


def _count(directory: int, name: str) -> int:
    return 1 + sum(
        len(files) + len(folders)
        for _, folders, files, _ in os.fwalk(name, dir_fd=directory, follow_symlinks=False)
    )


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _write_all(descriptor: int, data: bytes, checkpoint: Checkpoint) -> None:
    view = memoryview(data)
    while view:
        checkpoint()
        view = view[os.write(descriptor, view) :]
