"""The table of agents, and its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gathering_agent.agents.models import (
    Agent,
    AgentFields,
    AgentState,
    Competence,
    ContextPolicy,
    MemoryPolicy,
    Persona,
    Style,
)
from gathering_agent.errors import AgentNotFound
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

_JSON = ("persona", "competences", "memory_policy", "context_policy")
_SELECT = """
select id, name, persona::text, competences::text, model, max_concurrent_tasks, max_turn_steps,
    max_turn_tool_calls, memory_policy::text, state, version, definition, template, owner_user_id,
    create_time, update_time, fallback_models, context_policy::text
from agent.agents where tenant_id = $1
"""
_INSERT = """
insert into agent.agents (tenant_id, id, name, persona, competences, model, max_concurrent_tasks,
    max_turn_steps, max_turn_tool_calls, memory_policy, state, version, definition, update_time,
    fallback_models, context_policy, template, owner_user_id, create_time)
values ($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6, $7, $8, $9, $10::text::jsonb, $11, $12,
    $13, $14, $15, $16::text::jsonb, $17, $18, $19)
"""
_UPDATE = """
update agent.agents set name = $3, persona = $4::text::jsonb, competences = $5::text::jsonb,
    model = $6, max_concurrent_tasks = $7, max_turn_steps = $8, max_turn_tool_calls = $9,
    memory_policy = $10::text::jsonb, state = $11, version = $12, definition = $13,
    update_time = $14, fallback_models = $15, context_policy = $16::text::jsonb
where tenant_id = $1 and id = $2
"""


class AgentStore:
    """See `ports.AgentRows`."""

    async def insert(self, tx: Transaction, agent: Agent) -> None:
        """Add an agent."""
        fixed = (agent.template, agent.owner_user_id, agent.create_time)
        await tx.run(_INSERT, tx.tenant, agent.id, *_changing(agent), *fixed)

    async def get(self, tx: Transaction, agent_id: str, *, lock: bool = False) -> Agent:
        """Return an agent; AgentNotFound."""
        query = f"{_SELECT} and id = $2{' for update' if lock else ''}"
        row = await tx.fetch_one(query, tx.tenant, agent_id)
        if row is None:
            raise AgentNotFound(agent_id)
        return _agent(row)

    async def page(
        self, tx: Transaction, *, archived: bool, before: str, limit: int
    ) -> list[Agent]:
        """Return agents, newest first."""
        query = (
            f"{_SELECT} and ($2 = '' or id < $2) and ($3 or state = $4) order by id desc limit $5"
        )
        active = AgentState.ACTIVE.value
        rows = await tx.fetch(query, tx.tenant, before, archived, active, limit)
        return list(map(_agent, rows))

    async def update(self, tx: Transaction, agent: Agent) -> None:
        """Write what may change."""
        await tx.run(_UPDATE, tx.tenant, agent.id, *_changing(agent))


def _changing(agent: Agent) -> tuple[object, ...]:
    """Return the values of what may change, in the order of the statements."""
    fields = agent.fields
    persona, memory = asdict(fields.persona), fields.memory_policy.said
    return (
        fields.name,
        json.dumps(persona),
        json.dumps([asdict(competence) for competence in fields.competences]),
        fields.model,
        fields.max_concurrent_tasks,
        fields.max_turn_steps,
        fields.max_turn_tool_calls,
        json.dumps(memory),
        agent.state.value,
        agent.version,
        agent.definition,
        agent.update_time,
        list(fields.fallback_models),
        json.dumps(asdict(fields.context_policy)),
    )


def _agent(row: Row) -> Agent:
    return Agent(
        id=row["id"],
        fields=fields_of({**row, **{name: json.loads(row[name]) for name in _JSON}}),
        state=AgentState(row["state"]),
        version=row["version"],
        owner_user_id=row["owner_user_id"],
        create_time=row["create_time"],
        update_time=row["update_time"],
        definition=row["definition"],
        template=row["template"],
    )


def fields_of(stored: Mapping[str, Any]) -> AgentFields:
    """Read a definition; what came later than it was stored has its default."""
    persona = stored["persona"]
    return AgentFields(
        name=stored["name"],
        persona=Persona(
            role=persona["role"],
            base_prompt=persona["base_prompt"],
            traits=tuple(persona["traits"]),
            style=Style(persona["style"]),
            languages=tuple(persona["languages"]),
            specialisations=tuple(persona.get("specialisations", ())),
            preferences=tuple(persona.get("preferences", ())),
        ),
        competences=tuple(Competence(**competence) for competence in stored["competences"]),
        model=stored["model"],
        max_concurrent_tasks=stored["max_concurrent_tasks"],
        max_turn_steps=stored["max_turn_steps"],
        max_turn_tool_calls=stored.get("max_turn_tool_calls", 0),
        memory_policy=MemoryPolicy.of(stored.get("memory_policy", {})),
        fallback_models=tuple(stored.get("fallback_models", ())),
        context_policy=ContextPolicy(**stored.get("context_policy", {})),
    )
