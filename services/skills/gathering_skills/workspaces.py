"""Workspaces: make one of a directory, read, list, read a file of it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint
from gathering_mesh.postgres import Database
from gathering_skills.confined.contents import LARGEST_FILE, sha256_of
from gathering_skills.confined.root import Root, check_regular
from gathering_skills.directories import Directories
from gathering_skills.errors import (
    FileNotReadable,
    OutsideWorkspace,
    PathRefused,
    ToolError,
)
from gathering_skills.events import WorkspaceCreated
from gathering_skills.models import FilePart, WorkspaceRecord
from gathering_skills.ports import WorkspaceRows
from gathering_skills.purging import schedule_purge

LARGEST_PART = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WorkspacePage:
    """A page of workspaces; an empty token on the last."""

    workspaces: list[WorkspaceRecord]
    next_page_token: str


class Workspaces:
    """The verbs on workspaces; all of a tenant may see them."""

    def __init__(
        self, db: Database, rows: WorkspaceRows, directories: Directories, *, shared: bool
    ) -> None:
        self._db = db
        self._rows = rows
        self._directories = directories
        self._shared = shared

    async def create(self, call: Call, path: str, display_name: str) -> WorkspaceRecord:
        """Make a directory a workspace, or return the one that it is; WorkspaceRootRefused."""
        real = await asyncio.to_thread(self._directories.resolve, call.tenant, path)
        name = display_name or Path(real).name or real
        new = WorkspaceRecord(new_id("wsp"), name, real, datetime.now(UTC))
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            workspace_id = await self._rows.claim(tx, new, shared=self._shared)
            if workspace_id == new.id:
                tx.emit(new.id, WorkspaceCreated(new.id, name))
                await schedule_purge(tx)
            tx.result = workspace_id
            return await self._rows.get(tx, workspace_id)

    async def get(self, call: Call, workspace_id: str) -> WorkspaceRecord:
        """Return a workspace; NotFound."""
        async with self._db.transaction(call) as tx:
            return await self._rows.get(tx, workspace_id)

    async def page(self, call: Call, size: int, token: str) -> WorkspacePage:
        """Return a page of workspaces, newest first."""
        count = page_size(size)
        query = query_fingerprint(call.method, call.tenant)
        key = decode_token(query, token)
        before = str(key[0]) if key else ""
        async with self._db.transaction(call) as tx:
            found = await self._rows.page(tx, before=before, limit=count + 1)
        page = found[:count]
        more = len(found) > count
        return WorkspacePage(page, encode_token(query, [page[-1].id]) if more else "")

    async def read_file(
        self, call: Call, workspace_id: str, path: str, offset: int, limit: int
    ) -> FilePart:
        """Return a part of a file; NotFound, PathRefused."""
        record = await self.get(call, workspace_id)
        try:
            return await asyncio.to_thread(
                self._read, call.tenant, record.path, path, offset, limit or LARGEST_PART
            )
        except OutsideWorkspace as error:
            raise PathRefused(error.message, metadata={"resource": workspace_id}) from error
        except ToolError as error:
            raise FileNotReadable(error.message, metadata={"resource": workspace_id}) from error

    def _read(self, tenant: str, real: str, path: str, offset: int, limit: int) -> FilePart:
        with self._directories.open(tenant, real) as root:
            return _part(root, path, offset, limit)


def _part(root: Root, path: str, offset: int, limit: int) -> FilePart:
    with root.file(path) as descriptor:
        size = check_regular(descriptor, path)
        content = os.pread(descriptor, limit, offset) if offset < size else b""
        return FilePart(
            content=content,
            size_bytes=size,
            sha256=sha256_of(descriptor, _go_on) if size <= LARGEST_FILE else "",
        )


def _go_on() -> None:
    """Hash to the end; the size is bounded."""
