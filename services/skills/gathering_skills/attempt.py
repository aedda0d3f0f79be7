"""One attempt to run a tool: within its time, until somebody cancels it, and how it ended."""

from __future__ import annotations

import asyncio
import logging
import time

from gathering_mesh import faults
from gathering_mesh.errors import DomainError
from gathering_mesh.lease import Lease, LeaseLost
from gathering_mesh.postgres import Database
from gathering_skills.endings import cancelled, done, failed, interrupted, unknown
from gathering_skills.errors import ToolError
from gathering_skills.models import Artifact, Ending, Execution, JsonObject
from gathering_skills.ports import ExecutionUpkeep
from gathering_skills.results import as_text, bounded
from gathering_skills.stage import Job, Stage
from gathering_skills.telling import Telling
from gathering_skills.tooling.tool import Tool
from gathering_skills.waiting import Wakeups

_POLL_SECONDS = 1.0  # for a cancellation that came to another replica
_MESSAGE_CHARS = 2000
_log = logging.getLogger(__name__)

_Result = tuple[JsonObject, tuple[Artifact, ...]]


class Attempt:
    """Makes attempts."""

    def __init__(
        self, db: Database, upkeep: ExecutionUpkeep, stage: Stage, wakeups: Wakeups
    ) -> None:
        self._db = db
        self._upkeep = upkeep
        self._stage = stage
        self._wakeups = wakeups

    async def make(self, lease: Lease, job: Job, telling: Telling) -> Ending:
        """Run a tool and return how it ended; when cancelled, the tool has stopped before.

        The last of what it tells is left to be written with its end.
        """
        task = asyncio.create_task(self._call(lease, job, telling), name=job.execution.id)
        keeping = asyncio.create_task(telling.keep(lease))
        stopped: Ending | None = None
        try:
            stopped = await self._until_done(lease, job, task)
        finally:
            for one in (task, keeping):
                one.cancel()
            await asyncio.wait({task, keeping})
        if not keeping.cancelled() and (error := keeping.exception()) is not None:
            _log.warning("%s: what it told is written with its end", lease.id, exc_info=error)
        return _ending(job.tool, task, stopped)

    async def _call(self, lease: Lease, job: Job, telling: Telling) -> _Result:
        async def hold() -> None:
            async with lease.transaction():
                pass

        async with self._stage.set_up(lease.tenant, job, hold, telling.tell) as run:
            arguments = job.tool.check(job.execution.order.arguments)
            await faults.point("execution.effect")
            output = await job.tool.run(run, arguments)
            await faults.point("execution.effected")
            shown = await asyncio.to_thread(bounded, output)
            if shown is not output and not telling.has_told:
                await telling.tell(await asyncio.to_thread(as_text, output))
            return shown, tuple(run.artifacts)

    async def _until_done(
        self, lease: Lease, job: Job, task: asyncio.Task[_Result]
    ) -> Ending | None:
        """Wait for the tool; return the ending if it must be stopped before its own."""
        until = time.monotonic() + job.tool.spec.timeout
        with self._wakeups.of(job.execution.id) as waiter:
            task.add_done_callback(lambda _: waiter.tell())
            while not task.done():
                left = until - time.monotonic()
                if left <= 0:
                    return _timed_out(job.tool)
                await waiter.change(min(left, _POLL_SECONDS))
                if not task.done() and await self._cancelled(lease, job.execution):
                    return _cancelled(job.tool)
        return None

    async def _cancelled(self, lease: Lease, execution: Execution) -> bool:
        try:
            async with self._db.transaction(lease.tenant) as tx:
                return await self._upkeep.is_cancel_requested(tx, execution.id)
        except DomainError:  # the database is away; the tool is not the worse for it
            return False


def _ending(tool: Tool, task: asyncio.Task[_Result], stopped: Ending | None) -> Ending:
    if task.cancelled():
        return stopped or interrupted()
    error = task.exception()
    if error is None:  # also when it was faster than who wanted to stop it
        return done(*task.result())
    if stopped is not None:
        return stopped
    if isinstance(error, LeaseLost):
        raise error
    return _failure(tool, error)


def _failure(tool: Tool, error: BaseException) -> Ending:
    if isinstance(error, ToolError | DomainError):
        return failed(error.reason, error.message)
    _log.error("%s broke", tool.spec.name, exc_info=error)
    if not tool.spec.effect.repeatable:
        return unknown("the tool broke")
    return failed("TOOL_FAILED", "the tool broke; the log of the service tells why")


def _timed_out(tool: Tool) -> Ending:
    message = f"the tool took longer than {tool.spec.timeout:g} seconds and was stopped"
    return failed("TOOL_TIMEOUT", message) if tool.spec.effect.repeatable else unknown(message)


def _cancelled(tool: Tool) -> Ending:
    message = "the tool was cancelled while it ran"
    return cancelled(message) if tool.spec.effect.repeatable else unknown(message)
