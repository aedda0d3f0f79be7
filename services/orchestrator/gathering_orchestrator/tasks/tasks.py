"""Create, read, watch and cancel tasks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from functools import partial

from gathering_mesh.call import Call
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database
from gathering_orchestrator.circles.models import Circle
from gathering_orchestrator.circles.ports import CircleStore
from gathering_orchestrator.errors import ParentNotYours
from gathering_orchestrator.events import TaskCreated
from gathering_orchestrator.permission import store_permitted
from gathering_orchestrator.ports import Budgets, Permits, Workspaces
from gathering_orchestrator.tasks.models import Caps, Task, TaskDraft, TaskFields, TaskView
from gathering_orchestrator.tasks.models_states import END_STATES, TaskState
from gathering_orchestrator.tasks.moves import WORK, Moves
from gathering_orchestrator.tasks.ports import Clock, Signals, TaskQueries, TaskStore

_PRIORITY = 5
_TOOL_CALLS = 100


@dataclass(frozen=True, slots=True)
class Tasks:
    """The verbs of tasks that need no agent."""

    db: Database
    clock: Clock
    circles: CircleStore
    tasks: TaskStore
    queries: TaskQueries
    moves: Moves
    signals: Signals
    workspaces: Workspaces
    permits: Permits
    budgets: Budgets

    async def create(self, call: Call, draft: TaskDraft) -> TaskView:
        """Give a task to a circle; CircleNotFound, NotFound (workspace), TaskNotFound (parent).

        Raises ParentNotYours, and what keeps a budget from being set.
        """
        _check(draft)
        async with self.db.transaction(call) as tx:
            circle = await self.circles.get(tx, draft.circle_id)
            if draft.parent_task_id:
                parent = await self.tasks.get(tx, draft.parent_task_id)
                if parent.owner_user_id != call.user:
                    raise ParentNotYours("only its owner makes tasks below a task")
        if draft.workspace_id:
            await self.workspaces.check(call, draft.workspace_id)
        task_id = new_id("tsk")
        await self._bound(call, draft, task_id)
        stored = await store_permitted(
            self.permits, call, task_id, partial(self._store, call, circle, draft, task_id)
        )
        return await self.get(call, stored)

    async def _bound(self, call: Call, draft: TaskDraft, task_id: str) -> None:
        """Set the budget of a task before it exists: what exists is worked on."""
        if draft.budget is None and not draft.parent_task_id:
            return
        if await self.db.earlier(call) is None:
            caps = draft.budget or Caps()
            await self.budgets.set(call, task_id, caps, draft.parent_task_id)

    async def _store(
        self, call: Call, circle: Circle, draft: TaskDraft, task_id: str, delegation_id: str
    ) -> str:
        async with self.db.mutation(call) as tx:
            if tx.replay is not None:
                return tx.replay
            now = await self.clock.now(tx)
            fields = _fields(draft, circle)
            task = Task(
                task_id=task_id, fields=fields, state=TaskState.PENDING, state_message="",
                assigned_agent_id="", assigned_mode=None, round=0, summary="",
                submitted_round=0, session_id="", search=1, search_time=now, version=1,
                owner_user_id=call.user,
                delegation_id=delegation_id, trace=call.trace, create_time=now, update_time=now,
                end_time=None,
            )  # fmt: skip
            await self.tasks.insert(tx, task)
            tx.emit(
                task_id,
                TaskCreated(
                    task_id, fields.circle_id, fields.priority, fields.required_competences
                ),
            )
            await tx.schedule(WORK, task_id)
            tx.result = task_id
        return task_id

    async def get(self, call: Call, task_id: str) -> TaskView:
        """Return a task with all that belongs to it; TaskNotFound."""
        async with self.db.transaction(call) as tx:
            return await self.queries.view(tx, task_id)

    async def page(
        self, call: Call, *, before: str, limit: int, circle_id: str, state: TaskState | None
    ) -> list[Task]:
        """Return tasks, newest first, that are older than `before` (empty: all)."""
        async with self.db.transaction(call) as tx:
            return await self.queries.page(
                tx, before=before, limit=limit, circle_id=circle_id, state=state
            )

    async def watch(self, call: Call, task_id: str) -> AsyncGenerator[TaskView, None]:
        """Yield a task as it is, then whenever it has changed, until it has ended."""
        seen = 0
        async with self.signals.watching(task_id) as looks:
            async for _ in looks:
                async with self.db.transaction(call) as tx:
                    if await self.queries.version(tx, task_id) == seen:
                        continue
                    view = await self.queries.view(tx, task_id)
                seen = view.task.version
                yield view
                if view.task.state in END_STATES:
                    return

    async def cancel(self, call: Call, task_id: str) -> TaskView:
        """Cancel a task, unless it has ended; its turn is cancelled right after."""
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                task = await self.moves.lock(tx, task_id)
                if task.state not in END_STATES:
                    await self.moves.cancelled(tx, task)
                tx.result = task_id
        return await self.get(call, task_id)

    async def wake(self, tenant: str, circle_id: str) -> None:
        """Have the circle's waiting tasks look for a candidate again."""
        async with self.db.transaction(tenant) as tx:
            for task_id in await self.queries.waiting_in(tx, circle_id):
                await tx.schedule(WORK, task_id)


def _check(draft: TaskDraft) -> None:
    """Refuse what is empty but for blanks."""
    blank = {} if draft.title.strip() else {"title": "is required"}
    for name in ("acceptance_criteria", "required_competences"):
        for number, text in enumerate(getattr(draft, name)):
            if not text.strip():
                blank[f"{name}[{number}]"] = "must not be empty"
    if blank:
        raise InvalidArgument(f"{next(iter(blank))} is empty", fields=blank)


def _fields(draft: TaskDraft, circle: Circle) -> TaskFields:
    """Return what the task is: what was asked for, else what the circle says at this moment."""
    said = circle.fields
    review = said.requires_review if draft.requires_review is None else draft.requires_review
    return TaskFields(
        circle_id=circle.circle_id,
        title=draft.title,
        description=draft.description,
        acceptance_criteria=draft.acceptance_criteria,
        required_competences=draft.required_competences,
        priority=draft.priority or _PRIORITY,
        workspace_id=draft.workspace_id or said.workspace_id,
        requires_review=review,
        max_tool_calls=draft.max_tool_calls or _TOOL_CALLS,
        max_rounds=said.max_rounds,
        offer_timeout=said.offer_timeout,
        parent_task_id=draft.parent_task_id,
    )
