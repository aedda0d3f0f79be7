"""The rows of tasks, and what is read over them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.errors import IllegalTransition, TaskChanged, TaskNotFound
from gathering_orchestrator.store_tables import artifacts, members, offers, reviews, tasks
from gathering_orchestrator.tasks.models import Task, TaskFields, TaskView
from gathering_orchestrator.tasks.models_states import END_STATES, LEGAL, TaskState
from gathering_orchestrator.tasks.store_offers import offer_of
from gathering_orchestrator.tasks.store_reviews import artifact_of, review_of

_READS = 3  # of a task that changes while it is read


class PostgresTasks:
    """See `ports.TaskStore`, `ports.TaskQueries` and `ports.Clock`."""

    async def insert(self, tx: Transaction, task: Task) -> None:
        """Write a new task."""
        values = {"tenant_id": tx.tenant, "id": task.task_id, **_changing(task)}
        values |= asdict(task.fields) | {
            "acceptance_criteria": list(task.fields.acceptance_criteria),
            "required_competences": list(task.fields.required_competences),
            "search_time": task.search_time,
            "version": task.version,
            "owner_user_id": task.owner_user_id,
            "delegation_id": task.delegation_id,
            "trace": task.trace,
            "create_time": task.create_time,
            "update_time": task.update_time,
        }
        await tx.execute(insert(tasks).values(values))

    async def get(self, tx: Transaction, task_id: str) -> Task:
        """Return a task; TaskNotFound."""
        found = await tx.execute(select(tasks).where(_is(tx, task_id)))
        return _task_or_not(found.one_or_none(), task_id)

    async def lock(self, tx: Transaction, task_id: str) -> Task:
        """Return a task that nobody else changes until the end of the transaction."""
        # `key_share`: its offers, reviews and turns may refer to it meanwhile.
        query = select(tasks).where(_is(tx, task_id)).with_for_update(key_share=True)
        return _task_or_not((await tx.execute(query)).one_or_none(), task_id)

    async def save(self, tx: Transaction, before: Task, after: Task) -> Task:
        """Write a task back: its state by a legal transition, guarded by state and version.

        Raises IllegalTransition, TaskChanged. A change of anything counts as a new version.
        """
        moved = before.state is not after.state
        if moved and after.state not in LEGAL[before.state]:
            raise IllegalTransition(before.state, after.state)
        now = func.now()
        values: dict[str, Any] = {**_changing(after), "version": before.version + 1}
        if moved:
            values["update_time"] = now
            values["end_time"] = now if after.state in END_STATES else None
        if before.search != after.search:
            values["search_time"] = now
        statement = (
            update(tasks)
            .where(_is(tx, before.task_id))
            .where(tasks.c.version == before.version, tasks.c.state == before.state.value)
            .values(values)
            .returning(*tasks.c)
        )
        row = (await tx.execute(statement)).one_or_none()
        if row is None:
            raise TaskChanged(before.task_id)
        return _task(row)

    async def now(self, tx: Transaction) -> datetime:
        """Return the time at the beginning of the transaction."""
        value: datetime = await tx.fetch_value("select now()")
        return value


class PostgresTaskQueries:
    """See `ports.TaskQueries`."""

    async def view(self, tx: Transaction, task_id: str) -> TaskView:
        """Return a task with all that belongs to it, of one moment; TaskNotFound."""
        view = await _read(tx, task_id)
        for _ in range(_READS):  # whatever changes of a task, its version does
            if view.task.version == await self.version(tx, task_id):
                break
            view = await _read(tx, task_id)
        return view

    async def version(self, tx: Transaction, task_id: str) -> int:
        """Return the version of a task; TaskNotFound."""
        found = await tx.execute(select(tasks.c.version).where(_is(tx, task_id)))
        version: int | None = found.scalar_one_or_none()
        if version is None:
            raise TaskNotFound(task_id)
        return version

    async def page(
        self, tx: Transaction, *, before: str, limit: int, circle_id: str, state: TaskState | None
    ) -> list[Task]:
        """Return tasks, newest first, that are older than the id (empty: all)."""
        query = select(tasks).where(tasks.c.tenant_id == tx.tenant)
        if before:
            query = query.where(tasks.c.id < before)
        if circle_id:
            query = query.where(tasks.c.circle_id == circle_id)
        if state is not None:
            query = query.where(tasks.c.state == state.value)
        found = await tx.execute(query.order_by(tasks.c.id.desc()).limit(limit))
        return [_task(row) for row in found]

    async def waiting_for(self, tx: Transaction, agent_id: str, limit: int) -> list[str]:
        """Return tasks that look for a candidate in circles of an agent, most urgent first."""
        query = (
            select(tasks.c.id)
            .join(
                members,
                and_(
                    members.c.tenant_id == tasks.c.tenant_id,
                    members.c.circle_id == tasks.c.circle_id,
                ),
            )
            .where(tasks.c.tenant_id == tx.tenant, members.c.agent_id == agent_id)
            .where(tasks.c.state == TaskState.PENDING.value)
            .order_by(tasks.c.priority, tasks.c.id)
            .limit(limit)
        )
        return list((await tx.execute(query)).scalars())

    async def waiting_in(self, tx: Transaction, circle_id: str) -> list[str]:
        """Return tasks that look for a candidate in a circle."""
        query = (
            select(tasks.c.id)
            .where(tasks.c.tenant_id == tx.tenant, tasks.c.circle_id == circle_id)
            .where(tasks.c.state == TaskState.PENDING.value)
            # As above: who wakes several does it in one order, so that none wait for each other.
            .order_by(tasks.c.priority, tasks.c.id)
        )
        return list((await tx.execute(query)).scalars())


def _is(tx: Transaction, task_id: str) -> ColumnElement[bool]:
    return and_(tasks.c.tenant_id == tx.tenant, tasks.c.id == task_id)


async def _read(tx: Transaction, task_id: str) -> TaskView:
    found = await tx.execute(select(tasks).where(_is(tx, task_id)))
    task = _task_or_not(found.one_or_none(), task_id)
    mine = {"tenant_id": tx.tenant, "task_id": task_id}
    made = await tx.execute(select(offers).filter_by(**mine).order_by(offers.c.id))
    given = await tx.execute(select(reviews).filter_by(**mine).order_by(reviews.c.id))
    files = await tx.execute(
        select(artifacts).filter_by(**mine, round=task.submitted_round).order_by(artifacts.c.path)
    )
    return TaskView(
        task=task,
        offers=tuple(map(offer_of, made)),
        reviews=tuple(map(review_of, given)),
        artifacts=tuple(map(artifact_of, files)),
    )


def _changing(task: Task) -> dict[str, Any]:
    """Return the columns that change during a task's life, but for those that `save` derives."""
    return {
        "state": task.state.value,
        "state_message": task.state_message,
        "assigned_agent_id": task.assigned_agent_id,
        "assigned_mode": None if task.assigned_mode is None else task.assigned_mode.value,
        "round": task.round,
        "summary": task.summary,
        "submitted_round": task.submitted_round,
        "session_id": task.session_id,
        "search": task.search,
    }


def _task_or_not(row: Row[Any] | None, task_id: str) -> Task:
    if row is None:
        raise TaskNotFound(task_id)
    return _task(row)


def _task(row: Row[Any]) -> Task:
    fields = TaskFields(
        circle_id=row.circle_id, title=row.title, description=row.description,
        acceptance_criteria=tuple(row.acceptance_criteria),
        required_competences=tuple(row.required_competences), priority=row.priority,
        workspace_id=row.workspace_id, requires_review=row.requires_review,
        max_tool_calls=row.max_tool_calls, max_rounds=row.max_rounds,
        offer_timeout=row.offer_timeout, parent_task_id=row.parent_task_id,
    )  # fmt: skip
    return Task(
        task_id=row.id, fields=fields, state=TaskState(row.state),
        state_message=row.state_message, assigned_agent_id=row.assigned_agent_id,
        assigned_mode=MemberMode(row.assigned_mode) if row.assigned_mode else None,
        round=row.round, summary=row.summary, submitted_round=row.submitted_round,
        session_id=row.session_id, search=row.search,
        search_time=row.search_time, version=row.version, owner_user_id=row.owner_user_id,
        delegation_id=row.delegation_id, trace=row.trace, create_time=row.create_time,
        update_time=row.update_time, end_time=row.end_time,
    )  # fmt: skip
