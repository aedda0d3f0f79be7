"""Drive a task: what its state asks for next, one step for each claim of its work row.

A step reads, calls peers under keys that repeats share, and writes in one transaction that holds
lease and task. So a crash anywhere costs a repeat of the step and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.errors import DomainError
from gathering_mesh.postgres import Database
from gathering_mesh.work import Lease
from gathering_orchestrator.errors import PermitRevoked, TaskChanged, TaskNotFound, passes
from gathering_orchestrator.ports import Permits
from gathering_orchestrator.tasks.models import Task
from gathering_orchestrator.tasks.models_states import END_STATES, TaskState
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.ports import TaskStore
from gathering_orchestrator.tasks.reviews import Reviews
from gathering_orchestrator.tasks.routing import Routing
from gathering_orchestrator.tasks.turns import Turns
from gathering_orchestrator.tasks.work import Work

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

    async def _step(self, lease: Lease, task: Task) -> None:
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
        """Leave nothing behind: no turn that runs on, no permission that is not needed."""
        try:
            call = await self.permits.call(lease.tenant, task.delegation_id, task.trace)
            await self.turns.cancel(call, lease.tenant, task.task_id)
            await self.permits.revoke(call, task.delegation_id)
        except DomainError as error:
            if passes(error):
                raise
        await self._done(lease)

    async def _fail(self, lease: Lease, seen: Task) -> None:
        async with lease.transaction() as tx:
            task = await self.tasks.lock(tx, seen.task_id)
            if task.state not in END_STATES:
                await self.moves.failed(tx, task, PermitRevoked.reason, _REVOKED)
            await lease.done(tx)

    async def _done(self, lease: Lease) -> None:
        async with lease.transaction() as tx:
            await lease.done(tx)
