"""The rows of circles, members and copies of agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.models import (
    Agent,
    Circle,
    CircleFields,
    Competence,
    Member,
    MemberFields,
    MemberMode,
    Metrics,
)
from gathering_orchestrator.errors import CircleNotFound
from gathering_orchestrator.store_tables import agents, circles, members, reviews, tasks
from gathering_orchestrator.tasks.models_states import AT_WORK, TaskState, Verdict

_AT_WORK = sorted(AT_WORK)


class PostgresCircles:
    """See `ports.CircleStore`."""

    async def insert(self, tx: Transaction, circle: Circle) -> None:
        """Write a new circle."""
        values = {"tenant_id": tx.tenant, "id": circle.circle_id, **_circle_values(circle)}
        values |= {
            "owner_user_id": circle.owner_user_id,
            "delegation_id": circle.delegation_id,
            "create_time": circle.create_time,
        }
        await tx.execute(insert(circles).values(values))

    async def get(self, tx: Transaction, circle_id: str) -> Circle:
        """Return a circle; CircleNotFound."""
        found = await tx.execute(select(circles).where(_is(tx, circle_id)))
        return _circle_or_not(found.one_or_none(), circle_id)

    async def lock(self, tx: Transaction, circle_id: str) -> Circle:
        """Return a circle that nobody else changes until the end of the transaction."""
        # `key_share`: tasks may refer to it meanwhile.
        query = select(circles).where(_is(tx, circle_id)).with_for_update(key_share=True)
        return _circle_or_not((await tx.execute(query)).one_or_none(), circle_id)

    async def page(self, tx: Transaction, before: str, limit: int) -> list[Circle]:
        """Return circles, newest first, that are older than the id (empty: all)."""
        query = select(circles).where(circles.c.tenant_id == tx.tenant)
        if before:
            query = query.where(circles.c.id < before)
        found = await tx.execute(query.order_by(circles.c.id.desc()).limit(limit))
        return [_circle(row) for row in found]

    async def save(self, tx: Transaction, circle: Circle) -> None:
        """Write a locked circle back."""
        await tx.execute(
            update(circles).where(_is(tx, circle.circle_id)).values(_circle_values(circle))
        )


class PostgresMembers:
    """See `ports.MemberStore` and `ports.MetricsStore`."""

    async def put(self, tx: Transaction, circle_id: str, member: MemberFields) -> bool:
        """Write a member, in place of its former row; return whether it is new."""
        values = {"mode": member.mode.value, "can_review": member.can_review}
        statement: Any = (
            insert(members)
            .values(tenant_id=tx.tenant, circle_id=circle_id, agent_id=member.agent_id, **values)
            .on_conflict_do_update(index_elements=members.primary_key, set_=values)
            .returning(literal_column("xmax = 0"))  # no transaction had a row here before
        )
        return bool((await tx.execute(statement)).scalar_one())

    async def remove(self, tx: Transaction, circle_id: str, agent_id: str) -> bool:
        """Delete a member; return whether there was one."""
        gone = await tx.execute(delete(members).where(_is_member(tx, circle_id, agent_id)))
        return gone.rowcount == 1

    async def list(self, tx: Transaction, circle_id: str) -> list[Member]:
        """Return the members by name."""
        query = _members(tx).where(members.c.circle_id == circle_id)
        found = await tx.execute(query.order_by(agents.c.name, agents.c.id))
        return [_member(row) for row in found]

    async def get(self, tx: Transaction, circle_id: str, agent_id: str) -> Member | None:
        """Return a member, None if the agent is none."""
        query = _members(tx).where(_is_member(tx, circle_id, agent_id))
        row = (await tx.execute(query)).one_or_none()
        return None if row is None else _member(row)

    async def hold(self, tx: Transaction, circle_id: str, agent_id: str) -> bool:
        """Keep a member from being removed until the end of the transaction; False: it is gone."""
        query = select(members.c.agent_id).where(_is_member(tx, circle_id, agent_id))
        found = await tx.execute(query.with_for_update(read=True, key_share=True))
        return found.one_or_none() is not None

    async def recount(self, tx: Transaction, circle_id: str, agent_id: str) -> None:
        """Derive a member's metrics from the rows of its tasks and reviews."""
        done: Any = (
            select(
                func.count().filter(tasks.c.state == TaskState.COMPLETED.value),
                func.count().filter(tasks.c.state == TaskState.FAILED.value),
            )
            .where(tasks.c.tenant_id == tx.tenant, tasks.c.circle_id == circle_id)
            .where(tasks.c.assigned_agent_id == agent_id)
            .where(tasks.c.state.in_([TaskState.COMPLETED.value, TaskState.FAILED.value]))
        )
        judged: Any = (
            select(
                func.count(),
                func.count().filter(reviews.c.verdict == Verdict.APPROVED.value),
                func.coalesce(func.sum(reviews.c.score), 0.0),
            )
            .where(reviews.c.tenant_id == tx.tenant, reviews.c.circle_id == circle_id)
            .where(reviews.c.author_agent_id == agent_id, reviews.c.verdict.is_not(None))
        )
        # The row is locked first, so that of two that count at once the second sees the first.
        await tx.execute(
            select(members.c.agent_id)
            .where(_is_member(tx, circle_id, agent_id))
            .with_for_update(key_share=True)
        )
        completed, failed = tuple((await tx.execute(done)).one())
        count, approved, score_sum = tuple((await tx.execute(judged)).one())
        await tx.execute(
            update(members)
            .where(_is_member(tx, circle_id, agent_id))
            .values(
                completed=completed, failed=failed, reviews=count, approved=approved,
                score_sum=score_sum,
            )
        )  # fmt: skip


class PostgresAgents:
    """See `ports.AgentStore`."""

    async def keep(self, tx: Transaction, agent: Agent) -> None:
        """Write a copy, unless the one that is there is newer."""
        values = {
            "name": agent.name,
            "competences": [asdict(one) for one in agent.competences],
            "archived": agent.archived,
            "max_concurrent_tasks": agent.max_concurrent_tasks,
            "update_time": agent.update_time,
        }
        statement = insert(agents).values(tenant_id=tx.tenant, id=agent.agent_id, **values)
        await tx.execute(
            statement.on_conflict_do_update(
                index_elements=agents.primary_key,
                set_=values,
                where=agents.c.update_time <= statement.excluded.update_time,
            )
        )

    async def lock(self, tx: Transaction, agent_id: str) -> None:
        """Let nobody else give this agent a task until the end of the transaction."""
        query = select(agents.c.id).where(agents.c.tenant_id == tx.tenant, agents.c.id == agent_id)
        await tx.execute(query.with_for_update(key_share=True))

    async def open_task_ids(self, tx: Transaction, agent_id: str) -> list[str]:
        """Return the tasks that the agent is at work on, in all circles, by id."""
        query = (
            select(tasks.c.id)
            .where(tasks.c.tenant_id == tx.tenant, tasks.c.assigned_agent_id == agent_id)
            .where(tasks.c.state.in_(_AT_WORK))
            .order_by(tasks.c.id)
        )
        return list((await tx.execute(query)).scalars())

    async def permits(self, tx: Transaction, agent_id: str) -> Sequence[str]:
        """Return delegations under which the agent may be read again: those of its circles."""
        query = (
            select(circles.c.delegation_id)
            .join(
                members,
                and_(
                    members.c.tenant_id == circles.c.tenant_id, members.c.circle_id == circles.c.id
                ),
            )
            .where(circles.c.tenant_id == tx.tenant, members.c.agent_id == agent_id)
            .order_by(circles.c.id.desc())
        )
        return list((await tx.execute(query)).scalars())


def _is(tx: Transaction, circle_id: str) -> ColumnElement[bool]:
    return and_(circles.c.tenant_id == tx.tenant, circles.c.id == circle_id)


def _is_member(tx: Transaction, circle_id: str, agent_id: str) -> ColumnElement[bool]:
    return and_(
        members.c.tenant_id == tx.tenant,
        members.c.circle_id == circle_id,
        members.c.agent_id == agent_id,
    )


def _members(tx: Transaction) -> Any:
    at_work = (
        select(func.count())
        .where(tasks.c.tenant_id == members.c.tenant_id)
        .where(tasks.c.assigned_agent_id == members.c.agent_id)
        .where(tasks.c.state.in_(_AT_WORK))
        .scalar_subquery()
        .label("open_tasks")
    )
    return (
        select(members, agents, at_work)
        .join(
            agents,
            and_(agents.c.tenant_id == members.c.tenant_id, agents.c.id == members.c.agent_id),
        )
        .where(members.c.tenant_id == tx.tenant)
    )


def _circle_values(circle: Circle) -> dict[str, Any]:
    return {
        **asdict(circle.fields),
        "version": circle.version,
        "members_version": circle.members_version,
        "pushed_version": circle.pushed_version,
    }


def _circle_or_not(row: Row[Any] | None, circle_id: str) -> Circle:
    if row is None:
        raise CircleNotFound(circle_id)
    return _circle(row)


def _circle(row: Row[Any]) -> Circle:
    return Circle(
        circle_id=row.id,
        fields=CircleFields(
            name=row.name, purpose=row.purpose, workspace_id=row.workspace_id,
            requires_review=row.requires_review, max_rounds=row.max_rounds,
            offer_timeout=row.offer_timeout,
        ),
        owner_user_id=row.owner_user_id, delegation_id=row.delegation_id, version=row.version,
        members_version=row.members_version, pushed_version=row.pushed_version,
        create_time=row.create_time,
    )  # fmt: skip


def _member(row: Row[Any]) -> Member:
    agent = Agent(
        agent_id=row.agent_id, name=row.name,
        competences=tuple(Competence(**one) for one in row.competences), archived=row.archived,
        max_concurrent_tasks=row.max_concurrent_tasks, update_time=row.update_time,
    )  # fmt: skip
    metrics = Metrics(
        open_tasks=row.open_tasks, completed=row.completed, failed=row.failed,
        reviews=row.reviews, approved=row.approved, score_sum=row.score_sum,
    )  # fmt: skip
    return Member(agent, MemberMode(row.mode), row.can_review, row.join_time, metrics)
