"""The tables, and the rows of workspaces and grants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Row,
    Table,
    Text,
    func,
    insert,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as insert_unless

from gathering_mesh.postgres import Transaction
from gathering_skills.errors import SkillsNotFound, WorkspaceRootRefused
from gathering_skills.models import Grant, WorkspaceRecord
from gathering_skills.models_tools import Permission

metadata = MetaData(schema="skills")


def _table(name: str, *columns: Column[Any]) -> Table:
    keys = (Column("tenant_id", Text, primary_key=True), Column("id", Text, primary_key=True))
    return Table(name, metadata, *keys, *columns)


def _time(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True))


workspaces = _table(
    "workspaces", Column("display_name", Text), Column("path", Text), _time("create_time")
)
grants = _table(
    "grants",
    Column("agent_id", Text),
    Column("skill", Text),
    Column("permissions", ARRAY(Text)),
    Column("write_paths", ARRAY(Text)),
    Column("ask_permissions", ARRAY(Text)),
    Column("approval_timeout", Interval),
    _time("create_time"),
    _time("revoke_time"),
)
executions = _table(
    "executions",
    Column("principal", Text),
    Column("request_id", Text),
    Column("digest", LargeBinary),
    Column("owner_user_id", Text),
    Column("tool", Text),
    Column("arguments", Text),
    Column("agent_id", Text),
    Column("workspace_id", Text),
    Column("turn_id", Text),
    Column("task_id", Text),
    Column("trace", Text),
    Column("state", Text),
    Column("output", Text),
    Column("error_reason", Text),
    Column("error_message", Text),
    Column("artifacts", JSONB),
    Column("attempt_count", Integer),
    Column("cancel_requested", Boolean),
    _time("create_time"),
    _time("start_time"),
    _time("end_time"),
    Column("approval_digest", Text),
    _time("approval_expire_time"),
    Column("approval_user_id", Text),
    _time("approval_time"),
    Column("approval_comment", Text),
)


class WorkspaceStore:
    """See `ports.WorkspaceRows`."""

    async def claim(self, tx: Transaction, record: WorkspaceRecord, *, shared: bool) -> str:
        """Add a workspace; return the id of the one with its path, old or new."""
        # One at a time, or two tenants could each find that the other has nothing.
        await tx.run("select pg_advisory_xact_lock(hashtext('skills.workspaces'))")
        if not shared and await self._is_taken(tx, record.path):
            raise WorkspaceRootRefused("the directory is not available")
        values = {
            "tenant_id": tx.tenant,
            "id": record.id,
            "display_name": record.display_name,
            "path": record.path,
            "create_time": record.created_at,
        }
        await tx.execute(
            insert_unless(workspaces)
            .values(values)
            .on_conflict_do_nothing(constraint="workspace_directory")
        )
        query = select(workspaces.c.id).where(
            workspaces.c.tenant_id == tx.tenant, workspaces.c.path == record.path
        )
        return str((await tx.execute(query)).scalar_one())

    async def _is_taken(self, tx: Transaction, path: str) -> bool:
        taken: bool = await tx.fetch_value(
            "select skills.directory_is_taken($1, $2)", tx.tenant, path
        )
        return taken

    async def get(self, tx: Transaction, workspace_id: str) -> WorkspaceRecord:
        """Return a workspace; NotFound."""
        query = select(workspaces).where(
            workspaces.c.tenant_id == tx.tenant, workspaces.c.id == workspace_id
        )
        row = (await tx.execute(query)).one_or_none()
        if row is None:
            raise SkillsNotFound("workspace", workspace_id)
        return _workspace(row)

    async def page(self, tx: Transaction, *, before: str, limit: int) -> list[WorkspaceRecord]:
        """Return workspaces, newest first."""
        query = select(workspaces).where(workspaces.c.tenant_id == tx.tenant)
        if before:
            query = query.where(workspaces.c.id < before)
        rows = await tx.execute(query.order_by(workspaces.c.id.desc()).limit(limit))
        return [_workspace(row) for row in rows]


_GRANT = (
    *("id", "agent_id", "skill", "permissions", "write_paths"),
    *("create_time", "revoke_time", "ask_permissions", "approval_timeout"),
)
# Plain SQL: it runs for each turn and each execution.
_OF_AGENT = f"""
select {", ".join(_GRANT)} from skills.grants
where tenant_id = $1 and agent_id = $2 and revoke_time is null order by skill
"""  # noqa: S608 (of constants)


class GrantStore:
    """See `ports.GrantRows`."""

    async def insert(self, tx: Transaction, grant: Grant) -> None:
        """Add a grant."""
        await tx.execute(
            insert(grants).values(
                tenant_id=tx.tenant,
                id=grant.id,
                agent_id=grant.agent_id,
                skill=grant.skill,
                permissions=sorted(grant.permissions),
                write_paths=list(grant.write_paths),
                ask_permissions=sorted(grant.ask_permissions),
                approval_timeout=grant.approval_timeout,
                create_time=grant.created_at,
            )
        )

    async def get(self, tx: Transaction, grant_id: str) -> Grant:
        """Return a grant; NotFound."""
        query = select(grants).where(grants.c.tenant_id == tx.tenant, grants.c.id == grant_id)
        row = (await tx.execute(query)).one_or_none()
        if row is None:
            raise SkillsNotFound("grant", grant_id)
        return _grant(row)

    async def of_agent(self, tx: Transaction, agent_id: str) -> Sequence[Grant]:
        """Return the grants of an agent that are in force."""
        rows = await tx.fetch(_OF_AGENT, tx.tenant, agent_id)
        return [_grant_of(*row.values()) for row in rows]

    async def revoke(
        self, tx: Transaction, agent_id: str, skill: str, *, only: str = ""
    ) -> Grant | None:
        """End the grant of a skill that is in force, if it has the id `only`; return it."""
        # Two at once would both find none in force and both add one.
        await tx.run("select pg_advisory_xact_lock(hashtext($1))", f"{tx.tenant}/{agent_id}")
        query = (
            update(grants)
            .where(
                grants.c.tenant_id == tx.tenant,
                grants.c.agent_id == agent_id,
                grants.c.skill == skill,
                grants.c.revoke_time.is_(None),
                *([grants.c.id == only] if only else []),
            )
            .values(revoke_time=func.now())
            .returning(grants)
        )
        row = (await tx.execute(query)).one_or_none()
        return _grant(row) if row else None

    async def page(
        self, tx: Transaction, agent_id: str, *, after: tuple[str, str], limit: int
    ) -> list[Grant]:
        """Return grants in force by agent and skill, above a pair of them."""
        query = _in_force(tx).where(tuple_(grants.c.agent_id, grants.c.skill) > tuple_(*after))
        if agent_id:
            query = query.where(grants.c.agent_id == agent_id)
        rows = await tx.execute(query.order_by(grants.c.agent_id, grants.c.skill).limit(limit))
        return [_grant(row) for row in rows]


def _in_force(tx: Transaction) -> Any:
    return select(grants).where(grants.c.tenant_id == tx.tenant, grants.c.revoke_time.is_(None))


def _workspace(row: Row[Any]) -> WorkspaceRecord:
    return WorkspaceRecord(row.id, row.display_name, row.path, row.create_time)


def _grant(row: Row[Any]) -> Grant:
    return _grant_of(*(getattr(row, name) for name in _GRANT))


def _grant_of(  # noqa: PLR0917 (in the order of `_GRANT`)
    id: str,
    agent_id: str,
    skill: str,
    permissions: Sequence[str],
    write_paths: Sequence[str],
    created_at: datetime,
    revoked_at: datetime | None,
    ask_permissions: Sequence[str],
    approval_timeout: timedelta,
) -> Grant:
    return Grant(
        id=id,
        agent_id=agent_id,
        skill=skill,
        permissions=frozenset(map(Permission, permissions)),
        write_paths=tuple(write_paths),
        created_at=created_at,
        revoked_at=revoked_at,
        ask_permissions=frozenset(map(Permission, ask_permissions)),
        approval_timeout=approval_timeout,
    )
