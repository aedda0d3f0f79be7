"""The table of agents, and its rows. Those of the rest are in `store_sessions`, `store_turns`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from gathering_agent.errors import AgentNotFound
from gathering_agent.models_agents import Agent, AgentFields, AgentState, Competence, Persona, Style
from gathering_mesh.postgres import Transaction

metadata = MetaData(schema="agent")


def _table(name: str, *columns: Column[Any]) -> Table:
    keys = (Column("tenant_id", Text, primary_key=True), Column("id", Text, primary_key=True))
    return Table(name, metadata, *keys, *columns)


def _time(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True))


agents = _table(
    "agents",
    Column("name", Text),
    Column("persona", JSONB),
    Column("competences", JSONB),
    Column("model", Text),
    Column("max_concurrent_tasks", Integer),
    Column("max_turn_steps", Integer),
    Column("state", Text),
    Column("version", BigInteger),
    Column("owner_user_id", Text),
    _time("create_time"),
    _time("update_time"),
)


# Plain SQL: read in each turn.
_GET = """
select id, name, persona::text, competences::text, model, max_concurrent_tasks, max_turn_steps,
    state, version, owner_user_id, create_time, update_time
from agent.agents where tenant_id = $1 and id = $2
"""
_LOCK = f"{_GET} for update"


class AgentStore:
    """See `ports.AgentRows`."""

    async def insert(self, tx: Transaction, agent: Agent) -> None:
        """Add an agent."""
        values = {"tenant_id": tx.tenant, "id": agent.id, **_agent_values(agent)}
        values |= {"owner_user_id": agent.owner_user_id, "create_time": agent.create_time}
        await tx.execute(insert(agents).values(values))

    async def get(self, tx: Transaction, agent_id: str, *, lock: bool = False) -> Agent:
        """Return an agent; AgentNotFound."""
        row = await tx.fetch_one(_LOCK if lock else _GET, tx.tenant, agent_id)
        if row is None:
            raise AgentNotFound(agent_id)
        return _agent(
            {**row, **{name: json.loads(row[name]) for name in ("persona", "competences")}}
        )

    async def page(
        self, tx: Transaction, *, archived: bool, before: str, limit: int
    ) -> list[Agent]:
        """Return agents, newest first."""
        query = select(agents).where(agents.c.tenant_id == tx.tenant)
        if before:
            query = query.where(agents.c.id < before)
        if not archived:
            query = query.where(agents.c.state == AgentState.ACTIVE)
        rows = await tx.execute(query.order_by(agents.c.id.desc()).limit(limit))
        return [_agent(row._mapping) for row in rows]

    async def update(self, tx: Transaction, agent: Agent) -> None:
        """Write what may change."""
        mine = (agents.c.tenant_id == tx.tenant, agents.c.id == agent.id)
        await tx.execute(update(agents).where(*mine).values(_agent_values(agent)))


def _agent_values(agent: Agent) -> dict[str, Any]:
    fields = agent.fields
    return {
        "name": fields.name,
        "persona": asdict(fields.persona),
        "competences": [asdict(competence) for competence in fields.competences],
        "model": fields.model,
        "max_concurrent_tasks": fields.max_concurrent_tasks,
        "max_turn_steps": fields.max_turn_steps,
        "state": agent.state.value,
        "version": agent.version,
        "update_time": agent.update_time,
    }


def _agent(row: Mapping[Any, Any]) -> Agent:
    persona = row["persona"]
    return Agent(
        id=row["id"],
        fields=AgentFields(
            name=row["name"],
            persona=Persona(
                role=persona["role"],
                base_prompt=persona["base_prompt"],
                traits=tuple(persona["traits"]),
                style=Style(persona["style"]),
                languages=tuple(persona["languages"]),
            ),
            competences=tuple(Competence(**competence) for competence in row["competences"]),
            model=row["model"],
            max_concurrent_tasks=row["max_concurrent_tasks"],
            max_turn_steps=row["max_turn_steps"],
        ),
        state=AgentState(row["state"]),
        version=row["version"],
        owner_user_id=row["owner_user_id"],
        create_time=row["create_time"],
        update_time=row["update_time"],
    )
