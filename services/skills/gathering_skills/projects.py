"""What a workspace is the home of: derived from its files, and kept until they change."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from contextlib import suppress

from gathering_mesh.call import Call
from gathering_skills.confined.root import Root, entries_of, names_in
from gathering_skills.directories import Directories
from gathering_skills.errors import FileNotReadable, ToolError
from gathering_skills.inspector.project import READ
from gathering_skills.models import JsonObject
from gathering_skills.ports import Inspector
from gathering_skills.workspaces import Workspaces

_KEPT = 256  # workspaces
_SECONDS = 10.0
_NAMES = 2000  # of the top that are looked at

_Print = tuple[object, ...]


class Projects:
    """Derives project contexts; each is the same as long as the files that it comes from are."""

    def __init__(
        self, workspaces: Workspaces, directories: Directories, inspector: Inspector
    ) -> None:
        self._workspaces = workspaces
        self._directories = directories
        self._inspector = inspector
        self._known: OrderedDict[tuple[str, str], tuple[_Print, JsonObject]] = OrderedDict()

    async def get(self, call: Call, workspace_id: str) -> JsonObject:
        """Return what the files of a workspace say of it; NotFound, FileNotReadable."""
        record = await self._workspaces.get(call, workspace_id)
        try:
            root = await asyncio.to_thread(self._directories.open, call.tenant, record.path)
            try:
                return await self._derived((call.tenant, workspace_id), root)
            finally:
                root.close()
        except ToolError as error:
            raise FileNotReadable(error.message, metadata={"resource": workspace_id}) from error

    async def _derived(self, key: tuple[str, str], root: Root) -> JsonObject:
        seen = await asyncio.to_thread(_fingerprint, root)
        known = self._known.get(key)
        if known is not None and known[0] == seen:
            self._known.move_to_end(key)
            return known[1]
        found = await self._inspector.inspect(root.descriptor, "project", {}, _SECONDS)
        self._known[key] = (seen, found)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found


def _fingerprint(root: Root) -> _Print:
    """Return what changes when one of the files changes, or what lies in the first two levels."""
    files: list[object] = []
    for path in READ:
        with suppress(ToolError, OSError):
            entry = root.entry(path)
            files.append(entry and (path, entry.size_bytes, entry.modified))
    names = names_in(root.descriptor)[:_NAMES]
    top = [(one.name, one.kind, one.modified) for one in entries_of(root.descriptor, ".", names)]
    return (*files, *top, os.fstat(root.descriptor).st_mtime_ns)
