"""What a tool works with, beside its arguments."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from gathering_skills.confined.root import Root
from gathering_skills.models import Artifact, JsonObject
from gathering_skills.ports import Inspector, Tell

P = ParamSpec("P")
T = TypeVar("T")


class Stopped(Exception):
    """The run was cancelled while a thread worked for it."""


class Run:
    """One run of a tool.

    `execution_id` and `attempt` (1 is the first) are for tools whose effect somebody else makes
    happen once. `hold` makes sure that this process still is the one to do the work; tools that
    change something await it right before they do. `tell` takes text as it comes, for those who
    watch and for the record: whole, where the result is cut.
    """

    def __init__(
        self, execution_id: str, attempt: int, hold: Callable[[], Awaitable[None]], tell: Tell
    ) -> None:
        self.execution_id = execution_id
        self.attempt = attempt
        self.hold = hold
        self.tell = tell
        self.artifacts: list[Artifact] = []
        self._stop = threading.Event()

    def checkpoint(self) -> None:
        """Raise Stopped in a thread of a run that was cancelled; call it now and then."""
        if self._stop.is_set():
            raise Stopped

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks in a thread; when cancelled, ask it to stop and wait until it did.

        A change that was under way is then either made or not made, never about to be made.
        """
        task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stop.set()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # read, so that nobody complains that nobody did
            raise


class Workspace(Run):
    """A run in a workspace."""

    def __init__(
        self,
        execution_id: str,
        attempt: int,
        hold: Callable[[], Awaitable[None]],
        tell: Tell,
        *,
        root: Root,
        inspector: Inspector,
    ) -> None:
        super().__init__(execution_id, attempt, hold, tell)
        self.root = root
        self._inspector = inspector

    async def inspect(self, job: str, arguments: Mapping[str, Any], seconds: float) -> JsonObject:
        """Have a job done by a process of its own that sees this workspace; ToolError.

        What it finds is told as it finds it.
        """
        return await self._inspector.inspect(
            self.root.descriptor, job, arguments, seconds, self.tell
        )
