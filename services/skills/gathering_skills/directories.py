"""Which directories of the server may be workspaces, and how they are opened. Blocks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gathering_skills.confined.root import Root
from gathering_skills.errors import ToolError, WorkspaceRootRefused

_TENANT = "{tenant}"
# What they show is of all processes, ours and other tenants' included.
_KERNEL = ("/dev", "/proc", "/sys")


class Directories:
    """The roots that the operator allows; `{tenant}` in one stands for the tenant's id.

    What lies in, or around, a closed directory is not allowed anywhere.
    """

    def __init__(self, roots: Sequence[str], closed: Sequence[str] = ()) -> None:
        self._roots = roots
        self._closed = (*_KERNEL, *closed)

    def resolve(self, tenant: str, path: str) -> str:
        """Return a directory's path without links; WorkspaceRootRefused where it is not allowed."""
        try:
            real = os.path.realpath(path, strict=True)
            real.encode()
        except (OSError, ValueError) as error:
            raise WorkspaceRootRefused("there is no such directory") from error
        if not self._allows(tenant, real):
            raise WorkspaceRootRefused(
                "the directory is not below a root that is allowed, or lies in or around one that "
                "is closed"
            )
        if not Path(real).is_dir():
            raise WorkspaceRootRefused("it is no directory")
        return real

    def open(self, tenant: str, real: str) -> Root:
        """Open a resolved directory; ToolError if it is gone, became a link or is not allowed."""
        if not self._allows(tenant, real):
            raise ToolError("the workspace's directory is no longer allowed")
        try:
            return Root.open(real)
        except OSError as error:
            raise ToolError(f"the workspace cannot be opened: {error.strerror}") from error

    def _allows(self, tenant: str, real: str) -> bool:
        below = any(
            Path(real).is_relative_to(os.path.realpath(root.replace(_TENANT, tenant)))
            for root in self._roots
        )
        return below and not any(_meet(real, os.path.realpath(closed)) for closed in self._closed)


def _meet(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)
