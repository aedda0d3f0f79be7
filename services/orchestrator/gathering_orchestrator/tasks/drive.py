"""Drive a task: what its state asks for next, one step for each claim of its work row.

A step reads, calls peers under keys that repeats share, and writes in one transaction that holds
lease and task. So a crash anywhere costs a repeat of the step and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gathering_mesh import faults
from gathering_mesh.errors import DomainError, Internal
from gathering_mesh.postgres import Database
from gathering_mesh.work import Lease, LeaseLost
from gathering_orchestrator.errors import PermitRevoked, TaskChanged, TaskNotFound, passes
from gathering_orchestrator.ports import Permits
from gathering_orchestrator.tasks.models import Task
from gathering_orchestrator.tasks.models_states import (
    END_STATES,
    LEGAL,
    Escalation,
    TaskState,
)
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.ports import Clock, TaskStore
from gathering_orchestrator.tasks.reviews import Reviews
from gathering_orchestrator.tasks.routing import Routing
from gathering_orchestrator.tasks.turns import Turns
from gathering_orchestrator.tasks.work import Work

_ATTEMPTS = 10  # some minutes, of a step that fails for no reason that passes
_REVOKED = "the permission to act for the task's owner was revoked"


@dataclass(frozen=True, slots=True)
class Driver:
    """Handles the work of kind `task`."""

    db: Database
    tasks: TaskStore
    moves: Moves
    routing: Routing
    work: Work
    reviews: Reviews
    turns: Turns
    permits: Permits
    clock: Clock
    permission_grace: timedelta

    async def drive(self, lease: Lease) -> None:
        """Do the next step of a task."""
        try:
            async with self.db.transaction(lease.tenant) as tx:
                task = await self.tasks.get(tx, lease.id)
        except TaskNotFound:
            return await self._done(lease)
        try:
            await self._step(lease, task)
        except TaskChanged:
            async with lease.transaction() as tx:
                await lease.again(tx, None)
        except PermitRevoked:
            await self._fail(lease, task)
        except LeaseLost:
            raise
        except Exception as error:
            hopeless = _is_fault(error) and lease.attempt >= _ATTEMPTS
            if not hopeless or TaskState.ESCALATED not in LEGAL[task.state]:
                raise
            await self._escalate(lease, task, error)

    async def _step(self, lease: Lease, task: Task) -> None:
        await faults.point("task.stepping")
        match task.state:
            case TaskState.PENDING:
                await self.routing.pending(lease, task)
            case TaskState.OFFERED:
                await self.routing.offered(lease, task)
            case TaskState.ACCEPTED | TaskState.RUNNING:
                await self.work.step(lease, task)
            case TaskState.IN_REVIEW:
                await self.reviews.step(lease, task)
            case TaskState.ESCALATED:
                await self._done(lease)
            case TaskState.COMPLETED | TaskState.FAILED | TaskState.CANCELLED:
                await self._settle(lease, task)

    async def _settle(self, lease: Lease, task: Task) -> None:
        """Leave nothing behind: no turn that runs on, and after a while no permission.

        The sessions of the task live on permissions that end with this one: until then the owner
        can ask its agents about their work.
        """
        try:
            call = await self.permits.call(lease.tenant, task.delegation_id, task.trace)
            await self.turns.cancel(call, lease.tenant, task.task_id)
            if await self._is_early(lease, task):
                return
            await self.permits.revoke(call, task.delegation_id)
        except DomainError as error:
            if passes(error):
                raise
        await self._done(lease)

    async def _is_early(self, lease: Lease, task: Task) -> bool:
        """Tell whether the permission is still to be kept; then come back when it is not."""
        until = task.update_time + self.permission_grace
        async with lease.transaction() as tx:
            early = await self.clock.now(tx) < until
            if early:
                await lease.again(tx, until)
        return early

    async def _escalate(self, lease: Lease, seen: Task, error: Exception) -> None:
        """Have a human look: ten times is no accident."""
        message = f"a step failed {_ATTEMPTS} times: {type(error).__name__}"
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            await self.moves.escalated(tx, task, Escalation.WORK_FAILED, message)
            await lease.done(tx)

    async def _fail(self, lease: Lease, seen: Task) -> None:
        async with lease.transaction() as tx:
            task = await self.tasks.lock(tx, seen.task_id)
            if task.state not in END_STATES:
                await self.moves.failed(tx, task, PermitRevoked.reason, _REVOKED)
            await lease.done(tx)

    async def _done(self, lease: Lease) -> None:
        async with lease.transaction() as tx:
            await lease.done(tx)


def _is_fault(error: Exception) -> bool:
    """Tell a fault, of ours or inside a peer, from what passes when a peer is back."""
    return not isinstance(error, DomainError) or error.status == Internal.status
