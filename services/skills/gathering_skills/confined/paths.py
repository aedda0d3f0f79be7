"""Paths as callers write them: relative to the workspace, told back the same way."""

from __future__ import annotations

import os
import posixpath

from gathering_skills.errors import OutsideWorkspace, ToolError

LONGEST_PATH = 4000  # bytes; the kernel's limit is 4096
LONGEST_NAME = 255
OWN_PREFIX = ".gathering-"  # our files under way; nobody lists or finds them


def normal(path: str) -> str:
    """Return a path without `.`, `..` and double slashes; OutsideWorkspace if it leads out."""
    if "\0" in path:
        raise ToolError("a path cannot hold a NUL character", "TOOL_ARGUMENTS_INVALID")
    if path.startswith("/"):
        raise OutsideWorkspace(path)
    plain = posixpath.normpath(path) if path else "."
    if plain == ".." or plain.startswith("../"):
        raise OutsideWorkspace(path)
    raw = os.fsencode(plain)
    if len(raw) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in raw.split(b"/")):
        raise ToolError("the path is too long", "TOOL_ARGUMENTS_INVALID")
    return plain


def shown(path: str) -> str:
    r"""Return a path as it can be told: bytes that are no UTF-8 become `\xNN`.

    Such a name cannot be given back to a tool; whoever needs the file renames it first.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def joined(folder: str, name: str) -> str:
    """Return the path of a name in a folder."""
    return name if folder == "." else f"{folder}/{name}"
