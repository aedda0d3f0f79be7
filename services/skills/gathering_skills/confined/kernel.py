"""The system calls that Python does not offer: openat2 and renameat2."""

from __future__ import annotations

import ctypes
import errno
import functools
import os

# Numbers of the generic table, which x86-64, arm64 and riscv share for openat2.
_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RENAME_NOREPLACE = 1
_ATTEMPTS = 100
# What a kernel or a sandbox without the call answers.
_MISSING = frozenset({errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG})


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def has_openat2() -> bool:
    """Tell whether kernel and sandbox let us use openat2 (Linux 5.6 and later)."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(_openat2(root, b".", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH))
    except OSError as error:
        if error.errno in _MISSING:
            return False
        raise
    finally:
        os.close(root)
    return True


def open_beneath(directory: int, path: str, flags: int, mode: int = 0, *, links: bool) -> int:
    """Open a relative path that stays below an open directory; return the file descriptor.

    The kernel resolves it in one go, so nothing can be swapped on the way. `links`: symbolic links
    are followed as long as they stay below. Raises OSError: EXDEV where the path leads out, ELOOP
    for a link that is not followed.
    """
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | (0 if links else _RESOLVE_NO_SYMLINKS)
    for _ in range(_ATTEMPTS):
        try:
            return _openat2(directory, os.fsencode(path), flags | os.O_CLOEXEC, mode, resolve)
        except BlockingIOError:  # something was renamed meanwhile, so the kernel could not tell
            continue
    raise OSError(errno.EAGAIN, "the directories change all the time", path)


def walk_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """Do as `open_beneath` without openat2, part by part; no link is followed at all."""
    *parents, name = [part for part in path.split("/") if part not in {"", "."}] or ["."]
    if ".." in (*parents, name):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    step = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    current = os.dup(directory)
    try:
        for part in parents:
            below = _open_part(part, step, 0, current)
            os.close(current)
            current = below
        return _open_part(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, current)
    finally:
        os.close(current)


def rename(
    source_directory: int, source: str, directory: int, name: str, *, replace: bool = True
) -> None:
    """Rename within open directories; FileExistsError unless `replace`."""
    arguments = (source_directory, os.fsencode(source), directory, os.fsencode(name))
    if _libc().renameat2(*arguments, 0 if replace else _RENAME_NOREPLACE):
        error = _error(name)
        if error.errno == errno.EXDEV:  # which of paths says that they lead out
            raise OSError(errno.EINVAL, "lies on another file system", name)
        raise error


def _open_part(part: str, flags: int, mode: int, directory: int) -> int:
    try:
        return os.open(part, flags, mode, dir_fd=directory)
    except NotADirectoryError as error:
        if _is_link(part, directory):  # what the kernel says of a link that must be a directory
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part) from error
        raise


def _is_link(part: str, directory: int) -> bool:
    try:
        os.readlink(part, dir_fd=directory)
    except OSError:
        return False
    return True


def _openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags, mode, resolve)
    found = int(_libc().syscall(_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how)))
    if found < 0:
        raise _error(os.fsdecode(path))
    return found


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
