"""Set up what a run works with: the open workspace, the inspector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gathering_mesh.postgres import Database
from gathering_skills.directories import Directories
from gathering_skills.models import Execution
from gathering_skills.ports import Inspector, WorkspaceRows
from gathering_skills.tooling.context import Run, Workspace
from gathering_skills.tooling.tool import Tool


class Stage:
    """Sets up runs."""

    def __init__(
        self,
        db: Database,
        workspaces: WorkspaceRows,
        directories: Directories,
        inspector: Inspector,
    ) -> None:
        self._db = db
        self._workspaces = workspaces
        self._directories = directories
        self._inspector = inspector

    @asynccontextmanager
    async def set_up(
        self, tenant: str, execution: Execution, tool: Tool, hold: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[Run]:
        """Lend a run, with its workspace open if the tool needs one; NotFound, ToolError."""
        if not tool.spec.needs_workspace:
            yield Run(execution.id, execution.attempt_count, hold)
            return
        async with self._db.transaction(tenant) as tx:
            record = await self._workspaces.get(tx, execution.order.workspace_id)
        root = await asyncio.to_thread(self._directories.open, tenant, record.path)
        try:
            yield Workspace(execution.id, execution.attempt_count, hold, root, self._inspector)
        finally:
            root.close()
