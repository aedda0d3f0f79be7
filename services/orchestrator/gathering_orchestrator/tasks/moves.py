"""How a task goes on: each move with its row, event, metrics and whom it wakes, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.circles.ports import MetricsStore
from gathering_orchestrator.errors import TaskChanged
from gathering_orchestrator.events import (
    ReviewCompleted,
    TaskCancelled,
    TaskCompleted,
    TaskEscalated,
    TaskFailed,
    TaskStarted,
)
from gathering_orchestrator.tasks.models import Judgement, Review, Task
from gathering_orchestrator.tasks.models_states import (
    AT_WORK,
    Escalation,
    OfferState,
    TaskState,
    Verdict,
)
from gathering_orchestrator.tasks.ports import OfferStore, ReviewStore, TaskQueries, TaskStore

WORK = "task"  # the kind of the row by which a task is driven
_TRACE_ID = slice(3, 35)  # of a W3C traceparent
_WOKEN = 5  # waiting tasks that look again when an agent has room: one gets it, some spare


@dataclass(frozen=True, slots=True)
class Moves:
    """Each takes a locked task and returns it as it is afterwards."""

    tasks: TaskStore
    queries: TaskQueries
    offers: OfferStore
    reviews: ReviewStore
    metrics: MetricsStore

    async def lock(self, tx: Transaction, task_id: str) -> Task:
        """Lock a task for a change from outside, and have it driven on afterwards.

        The row of its work is locked first, as a worker does, so that the two cannot wait for
        each other.
        """
        await tx.schedule(WORK, task_id)
        return await self.tasks.lock(tx, task_id)

    async def unchanged(self, tx: Transaction, seen: Task) -> Task:
        """Lock a task for the next step of its worker; TaskChanged if it is not as it was seen."""
        task = await self.tasks.lock(tx, seen.task_id)
        if task.version != seen.version:
            raise TaskChanged(seen.task_id)
        tx.trace_id = tx.trace_id or task.trace[_TRACE_ID]
        return task

    async def started(self, tx: Transaction, task: Task, round: int, turn_id: str) -> Task:
        """Begin a round of work."""
        after = await self.tasks.save(
            tx, task, replace(task, state=TaskState.RUNNING, round=round, state_message="")
        )
        tx.emit(
            task.task_id,
            TaskStarted(
                task.task_id, task.fields.circle_id, task.assigned_agent_id, round, turn_id
            ),
        )
        return after

    async def next_round(self, tx: Transaction, task: Task) -> Task:
        """Have the author work on it again; an EXTERNAL one begins at once."""
        if task.assigned_mode is MemberMode.EXTERNAL:
            return await self.started(tx, task, task.round + 1, "")
        return await self.tasks.save(
            tx,
            task,
            replace(task, state=TaskState.RUNNING, round=task.round + 1, state_message=""),
        )

    async def completed(self, tx: Transaction, task: Task) -> Task:
        """End well."""
        after = await self.tasks.save(
            tx, task, replace(task, state=TaskState.COMPLETED, state_message="")
        )
        tx.emit(
            task.task_id,
            TaskCompleted(task.task_id, task.fields.circle_id, task.assigned_agent_id, task.round),
        )
        await self._released(tx, task)
        return after

    async def failed(self, tx: Transaction, task: Task, reason: str, message: str) -> Task:
        """End for good without a result; `reason` is for programs, `message` for people."""
        await self._withdraw_questions(tx, task)
        after = await self.tasks.save(
            tx, task, replace(task, state=TaskState.FAILED, state_message=message)
        )
        tx.emit(task.task_id, TaskFailed(task.task_id, task.fields.circle_id, reason))
        await self._released(tx, task)
        return after

    async def cancelled(self, tx: Transaction, task: Task) -> Task:
        """End because somebody wants it."""
        await self._withdraw_questions(tx, task)
        after = await self.tasks.save(
            tx, task, replace(task, state=TaskState.CANCELLED, state_message="")
        )
        tx.emit(task.task_id, TaskCancelled(task.task_id, task.fields.circle_id))
        await self._released(tx, task)
        return after

    async def escalated(
        self, tx: Transaction, task: Task, reason: Escalation, message: str
    ) -> Task:
        """Wait for a human."""
        await self._withdraw_questions(tx, task)
        after = await self.tasks.save(
            tx,
            task,
            replace(task, state=TaskState.ESCALATED, state_message=f"{reason}: {message}"),
        )
        tx.emit(task.task_id, TaskEscalated(task.task_id, task.fields.circle_id, reason))
        await self._released(tx, task)
        return after

    async def judged(self, tx: Transaction, task: Task, review: Review, found: Judgement) -> Task:
        """Let a review that was given decide how the task goes on."""
        tx.emit(
            task.task_id,
            ReviewCompleted(
                review.review_id,
                task.task_id,
                task.fields.circle_id,
                review.reviewer_agent_id,
                review.reviewer_name,
                review.round,
                found.verdict.lower(),
                found.score,
            ),
        )
        if task.assigned_agent_id:
            await self.metrics.recount(tx, task.fields.circle_id, task.assigned_agent_id)
        if task.state is TaskState.ESCALATED:
            return await self._decided(tx, task, found)
        return await self._reviewed(tx, task, found)

    async def _reviewed(self, tx: Transaction, task: Task, found: Judgement) -> Task:
        """Follow a peer."""
        if found.verdict is Verdict.APPROVED:
            return await self.completed(tx, task)
        if found.verdict is Verdict.REJECTED:
            return await self.escalated(
                tx, task, Escalation.REJECTED, found.comment or "the reviewer rejected the work"
            )
        if task.round >= task.fields.max_rounds:
            message = f"changes were requested after round {task.round} of {task.fields.max_rounds}"
            return await self.escalated(tx, task, Escalation.ROUNDS_EXHAUSTED, message)
        return await self.next_round(tx, task)

    async def _decided(self, tx: Transaction, task: Task, found: Judgement) -> Task:
        """Follow a human, who has the last word."""
        if found.verdict is Verdict.APPROVED:
            return await self.completed(tx, task)
        if found.verdict is Verdict.REJECTED:
            message = found.comment or "a human rejected the task"
            return await self.failed(tx, task, "rejected", message)
        if task.assigned_agent_id:
            return await self.next_round(tx, task)
        return await self.searching(tx, task, afresh=True)

    async def searching(self, tx: Transaction, task: Task, *, afresh: bool = False) -> Task:
        """Look for a candidate: the next one, or afresh, when all may be asked again."""
        after = replace(task, state=TaskState.PENDING, state_message="")
        if afresh:
            after = replace(after, search=task.search + 1)
        return await self.tasks.save(tx, task, after)

    async def _withdraw_questions(self, tx: Transaction, task: Task) -> None:
        """Take back what somebody still thinks about: an offer, a review."""
        for offer in await self.offers.of_task(tx, task.task_id):
            if offer.state is OfferState.OPEN:
                await self.offers.close(tx, offer, OfferState.WITHDRAWN)
        for review in await self.reviews.of_task(tx, task.task_id):
            if review.end_time is None:
                await self.reviews.close(tx, review, None)

    async def _released(self, tx: Transaction, task: Task) -> None:
        """Count what the agent did, and have tasks that wait for it look again."""
        if not task.assigned_agent_id:
            return
        await self.metrics.recount(tx, task.fields.circle_id, task.assigned_agent_id)
        if task.state in AT_WORK:
            for other in await self.queries.waiting_for(tx, task.assigned_agent_id, _WOKEN):
                await tx.schedule(WORK, other)
