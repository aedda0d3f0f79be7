"""Set up what a run works with: the open workspace, the inspector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gathering_skills.directories import Directories
from gathering_skills.models import Execution
from gathering_skills.ports import Inspector, Tell
from gathering_skills.tooling.context import Run, Workspace
from gathering_skills.tooling.tool import Tool


@dataclass(frozen=True, slots=True)
class Job:
    """An execution that runs, its tool, and the directory of its workspace (empty: none)."""

    execution: Execution
    tool: Tool
    directory: str


class Stage:
    """Sets up runs."""

    def __init__(self, directories: Directories, inspector: Inspector) -> None:
        self._directories = directories
        self._inspector = inspector

    @asynccontextmanager
    async def set_up(
        self, tenant: str, job: Job, hold: Callable[[], Awaitable[None]], tell: Tell
    ) -> AsyncIterator[Run]:
        """Lend a run, with its workspace open if the tool needs one; ToolError."""
        execution_id, attempt = job.execution.id, job.execution.attempt_count
        if not job.tool.spec.needs_workspace:
            yield Run(execution_id, attempt, hold, tell)
            return
        root = await asyncio.to_thread(self._directories.open, tenant, job.directory)
        try:
            yield Workspace(execution_id, attempt, hold, tell, root=root, inspector=self._inspector)
        finally:
            root.close()
