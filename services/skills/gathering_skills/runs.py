"""Run executions. Safe to be killed between any two lines.

A killed run leaves the state RUNNING and work whose lease ends. Whoever claims it next finds that
state and runs the tool once more or, where the effect happens once, says that nobody knows. So a
tool starts only after RUNNING is committed, and no end is written without the fence.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

from gathering_mesh import envelope, faults
from gathering_mesh.call import Call, Principal, RequestKey
from gathering_mesh.errors import DomainError
from gathering_mesh.lease import Lease, LeaseLost
from gathering_mesh.loops import backoff, report
from gathering_mesh.postgres import Transaction
from gathering_skills.attempt import Attempt
from gathering_skills.catalogue import Catalogue
from gathering_skills.endings import cancelled, expired, failed, interrupted
from gathering_skills.errors import ToolNotFound
from gathering_skills.life import end, move
from gathering_skills.models import Ending, Execution, ExecutionState
from gathering_skills.ports import ExecutionRows, OutputRows, WorkspaceRows
from gathering_skills.questions import question_digest
from gathering_skills.stage import Job
from gathering_skills.telling import Telling
from gathering_skills.tooling.tool import Tool
from gathering_skills.waiting import Wakeups

MOST_ATTEMPTS = 3  # a tool that takes its process down each time is not tried for ever
_LAST_WORDS_SECONDS = 2.0
_METHOD = "/gathering.skills.v1.ExecutionService/Execute"


class Runs:
    """Runs executions for whoever holds their lease."""

    def __init__(
        self,
        rows: ExecutionRows,
        outputs: OutputRows,
        workspaces: WorkspaceRows,
        catalogue: Catalogue,
        attempt: Attempt,
        *,
        wakeups: Wakeups,
    ) -> None:
        self._rows = rows
        self._outputs = outputs
        self._workspaces = workspaces
        self._catalogue = catalogue
        self._attempt = attempt
        self._wakeups = wakeups

    async def run(self, lease: Lease) -> None:
        """Run an execution to its end, or find that it has ended."""
        execution, job = await self._started(lease)
        if job is None:
            self._wakeups.wake(lease.id, execution)
            return
        self._wakeups.started(lease.id)
        await faults.point("execution.started")
        telling = Telling(self._outputs, self._wakeups, execution)
        try:
            ending = await self._attempt.make(lease, job, telling)
        except asyncio.CancelledError:  # the lease is lost, or the process drains
            if not job.tool.spec.effect.repeatable:
                await self._last_words(lease, execution, telling)
            raise
        await self._finish(lease, execution, ending, telling)

    async def _started(self, lease: Lease) -> tuple[Execution, Job | None]:
        """Move to RUNNING and return what is to be run, None if nothing is."""
        async with lease.transaction() as tx:
            execution = await self._rows.get(tx, lease.id, lock=True)
            _attribute(tx, execution)
            tool = self._tool(execution)
            if execution.state is ExecutionState.AWAITING_APPROVAL:
                return await self._unanswered(lease, tx, execution), None
            ending = _end_before_start(execution, tool)
            if ending is None and tool is not None:
                execution = await self._to_running(tx, execution)
                return execution, Job(execution, tool, await self._directory(tx, execution))
            if ending is not None and not execution.state.ended:
                execution = await self._ended(tx, execution, ending)
            await lease.done(tx)
        return execution, None

    async def _unanswered(self, lease: Lease, tx: Transaction, execution: Execution) -> Execution:
        """End what nobody approved in time, or look again when the time is over."""
        if await self._rows.is_open(tx, execution) and execution.approval:
            await lease.again(tx, execution.approval.expires_at)
            return execution
        execution = _expected(await end(self._rows, tx, execution, expired()))
        await lease.done(tx)
        return execution

    async def _directory(self, tx: Transaction, execution: Execution) -> str:
        workspace_id = execution.order.workspace_id
        return (await self._workspaces.get(tx, workspace_id)).path if workspace_id else ""

    def _tool(self, execution: Execution) -> Tool | None:
        with suppress(ToolNotFound):
            return self._catalogue.find(execution.order.tool)[1]
        return None

    async def _to_running(self, tx: Transaction, execution: Execution) -> Execution:
        if execution.state is ExecutionState.RUNNING:
            execution = _expected(await move(self._rows, tx, execution, ExecutionState.REQUESTED))
            await self._outputs.drop(tx, execution.id)  # void, and the next attempt tells it again
        return _expected(await move(self._rows, tx, execution, ExecutionState.RUNNING))

    async def _ended(self, tx: Transaction, execution: Execution, ending: Ending) -> Execution:
        possible = ending.state is ExecutionState.CANCELLED
        if execution.state is ExecutionState.REQUESTED and not possible:
            execution = _expected(await move(self._rows, tx, execution, ExecutionState.RUNNING))
        return _expected(await end(self._rows, tx, execution, ending))

    async def _finish(
        self, lease: Lease, execution: Execution, ending: Ending, telling: Telling
    ) -> None:
        """Write the end; through an outage as well, as long as the lease is held."""
        for failures in itertools.count(1):
            try:
                await self._write(lease, execution, ending, telling)
            except DomainError as error:
                report("write the end of an execution", error, failures)
                await asyncio.sleep(backoff(failures, 0.1, 2.0))
            else:
                return

    async def _write(
        self, lease: Lease, execution: Execution, ending: Ending, telling: Telling
    ) -> None:
        async with lease.transaction() as tx:
            _attribute(tx, execution)
            await telling.rest(tx)
            ended = await end(self._rows, tx, execution, ending)
            await lease.done(tx)
            await faults.point("execution.ending")
        await faults.point("execution.ended")
        self._wakeups.wake(lease.id, ended)

    async def _last_words(self, lease: Lease, execution: Execution, telling: Telling) -> None:
        """Say that nobody knows, if we still may; else whoever claims the work next says it."""
        with suppress(DomainError, LeaseLost, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._write(lease, execution, interrupted(), telling)


def _end_before_start(execution: Execution, tool: Tool | None) -> Ending | None:
    """Return how an execution ends without a (further) run; None: it is to run."""
    if execution.state.ended:
        return Ending(execution.state)
    was_running = execution.state is ExecutionState.RUNNING
    if was_running and not (tool and tool.spec.effect.repeatable):
        return interrupted()
    if execution.cancel_requested:
        return cancelled("cancelled before it ran")
    return _unfit(execution, tool)


def _unfit(execution: Execution, tool: Tool | None) -> Ending | None:
    """Return why it cannot run, if it cannot."""
    if tool is None:
        return failed("TOOL_NOT_FOUND", "this installation no longer has the tool")
    if not _is_approved(execution, tool):
        return failed("APPROVAL_EXPIRED", "the tool is another than the one that was approved")
    if execution.attempt_count >= MOST_ATTEMPTS:
        return failed("TOOL_FAILED", f"interrupted {MOST_ATTEMPTS} times while it ran")
    return None


def _is_approved(execution: Execution, tool: Tool) -> bool:
    """Tell whether what would run is what was approved, where that was asked for."""
    asked = execution.approval
    if asked is None:
        return True
    digest = question_digest(execution.principal, execution.order, tool.spec)
    return asked.decided_at is not None and asked.digest == digest


def _expected(execution: Execution | None) -> Execution:
    if execution is None:
        raise RuntimeError("a locked execution has changed")
    return execution


def _attribute(tx: Transaction, execution: Execution) -> None:
    """Let the events of a transaction name who asked for the execution as their cause."""
    call = call_of(tx.tenant, execution)
    tx.cause = envelope.cause_of_call(call)
    tx.trace_id = envelope.trace_id_of(call.trace)


def call_of(tenant: str, execution: Execution) -> Call:
    """Return the call that asked for an execution, as far as it is known later."""
    user, _, actor = execution.principal.partition("/")
    principal = Principal(tenant, user, frozenset(), "", actor=actor or None)
    key = RequestKey(_METHOD, execution.request_id, b"")
    return Call(principal, _METHOD, trace=execution.trace, request_key=key)
