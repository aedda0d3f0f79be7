"""An open directory, and files below it. All of this blocks: call it in a thread."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum

from gathering_skills.confined import kernel
from gathering_skills.confined.paths import OWN_PREFIX, joined, normal, shown
from gathering_skills.errors import LinkRefused, NoSuchFile, OutsideWorkspace, ToolError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
# Its hooks and its configuration are commands, which run outside as whoever uses git there.
_REPOSITORY = ".git"
# Neither a FIFO nor a terminal may hold us up.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_WORDS = {
    errno.ENOTDIR: "a part of {path!r} is no directory",
    errno.EISDIR: "{path!r} is a directory",
    errno.EACCES: "the workspace gives no access to {path!r}",
    errno.EPERM: "the workspace does not allow that with {path!r}",
    errno.EEXIST: "{path!r} exists already",
    errno.ENOTEMPTY: "the directory {path!r} is not empty",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the workspace is read-only",
    errno.ENXIO: "{path!r} is no regular file",
    errno.EBUSY: "{path!r} is in use",
    errno.EMFILE: "too many files are open; try again",
    errno.EAGAIN: "the directories around {path!r} change all the time; try again",
}


class Kind(StrEnum):
    """What stands at a path."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a path without opening it; `modified` in seconds since the epoch."""

    path: str
    kind: Kind
    size_bytes: int
    modified: float

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition("/")[2]


class Root:
    """A directory that nothing leads out of. It holds a descriptor: close it, or use `with`."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def open(cls, path: str) -> Root:
        """Open an absolute path without following a link anywhere in it; raises OSError."""
        top = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return cls(_descend(top, path.strip("/") or ".", _FOLDER, links=False))
        finally:
            os.close(top)

    def close(self) -> None:
        """Give the descriptor back; repeatable."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        """Close what was opened for a run that was cancelled meanwhile."""
        self.close()

    def open_path(self, path: str, flags: int, *, links: bool = True) -> int:
        """Open a path below; links are followed as long as they stay below. Raises ToolError."""
        plain = normal(path)
        with explained(plain):
            return _descend(self.descriptor, plain, flags, links=links)

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """Lend a descriptor to read a regular file; ToolError for anything else."""
        descriptor = self.open_path(path, _READ)
        try:
            check_regular(descriptor, path)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """Lend a descriptor of a directory; ToolError for anything else."""
        descriptor = self.open_path(path, _FOLDER)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Lend the directory that holds a path, and the last part: for writers."""
        descriptor, name = self.open_parent(path, create=create)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def open_parent(self, path: str, *, create: bool = False) -> tuple[int, str]:
        """Open the directory that holds a path, creating what is missing if asked.

        No link is followed, so that what a grant says of a path is said of the place.
        """
        plain = normal(path)
        if plain == ".":
            raise ToolError("the workspace itself cannot be changed this way")
        folder, _, name = plain.rpartition("/")
        if name.startswith(OWN_PREFIX):
            raise ToolError(f"names that begin with {OWN_PREFIX!r} are ours")
        if _REPOSITORY in plain.split("/"):
            raise ToolError(f"what is in {_REPOSITORY} says what git runs; it is not changed here")
        try:
            with explained(plain):
                return (self._folders(folder) if create else self._plain_folder(folder)), name
        except LinkRefused:
            self.refuse_link(folder)
            raise

    def refuse_link(self, path: str) -> None:
        """Raise OutsideWorkspace if a link leads out of the workspace, LinkRefused otherwise."""
        with suppress(NoSuchFile):
            os.close(self.open_path(path, os.O_PATH))
        raise LinkRefused(path)

    def entry(self, path: str) -> Entry | None:
        """Return what stands at a path, a link as itself; None if nothing does."""
        plain = normal(path)
        if plain == ".":
            return _entry(".", os.fstat(self.descriptor))
        folder, _, name = plain.rpartition("/")
        try:
            with self.folder(folder or ".") as descriptor:
                return entry_at(descriptor, name, plain)
        except (FileNotFoundError, NoSuchFile):
            return None

    def _plain_folder(self, folder: str) -> int:
        return _descend(self.descriptor, folder or ".", _FOLDER, links=False)

    def _folders(self, folder: str) -> int:
        """Open a folder, creating what is missing on the way."""
        current = os.dup(self.descriptor)
        for part in folder.split("/") if folder else ():
            try:
                make_folder(current, part)
                below = _descend(current, part, _FOLDER, links=False)
            finally:
                os.close(current)
            current = below
        return current


def make_folder(directory: int, name: str) -> bool:
    """Create a directory durably; tell whether it was missing."""
    try:
        os.mkdir(name, 0o755, dir_fd=directory)
    except FileExistsError:
        return False
    os.fsync(directory)
    return True


def entry_at(directory: int, name: str, path: str) -> Entry:
    """Return what stands in an open directory under a name; raises OSError."""
    return _entry(path, os.stat(name, dir_fd=directory, follow_symlinks=False))


def names_in(directory: int) -> list[str]:
    """Return the names in an open directory, sorted, without those of ours."""
    return sorted(name for name in os.listdir(directory) if not name.startswith(OWN_PREFIX))


def entries_of(directory: int, path: str, names: Iterable[str]) -> Iterator[Entry]:
    """Yield what stands under names in a directory; what has vanished is left out."""
    for name in names:
        with suppress(FileNotFoundError):
            yield entry_at(directory, name, joined(path, name))


def check_regular(descriptor: int, path: str) -> int:
    """Return the size of an open regular file; ToolError for anything else."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        what = "a directory" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise ToolError(f"{shown(path)!r} is {what}")
    return found.st_size


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what the system says of a path into words for the model."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchFile(shown(path)) from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise OutsideWorkspace(shown(path)) from error
        if error.errno == errno.ELOOP:
            raise LinkRefused(shown(path)) from error
        words = _WORDS.get(error.errno or 0)
        if words is None:
            raise ToolError(f"{shown(path)!r}: {error.strerror}") from error
        raise ToolError(words.format(path=shown(path))) from error


def _descend(directory: int, path: str, flags: int, *, links: bool) -> int:
    if kernel.has_openat2():
        return kernel.open_beneath(directory, path, flags, links=links)
    return kernel.walk_beneath(directory, path, flags)


def _entry(path: str, found: os.stat_result) -> Entry:
    if stat.S_ISREG(found.st_mode):
        kind = Kind.FILE
    elif stat.S_ISDIR(found.st_mode):
        kind = Kind.DIRECTORY
    elif stat.S_ISLNK(found.st_mode):
        kind = Kind.LINK
    else:
        kind = Kind.OTHER
    return Entry(path, kind, found.st_size, found.st_mtime)
