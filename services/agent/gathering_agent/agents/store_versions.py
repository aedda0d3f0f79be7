"""The rows of agents' definitions: written once, never changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from gathering_agent.agents.models import AgentFields, AgentVersion
from gathering_agent.agents.store import fields_of
from gathering_agent.errors import AgentVersionNotFound
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

_INSERT = """
insert into agent.agent_versions (tenant_id, agent_id, version, user_id, create_time,
    changed_fields, definition)
values ($1, $2, $3, $4, $5, $6, $7::text::jsonb)
"""
_FIELDS = """
select definition::text from agent.agent_versions
where tenant_id = $1 and agent_id = $2 and version = $3
"""
_GET = """
select agent_id, version, user_id, create_time, changed_fields, definition::text
from agent.agent_versions where tenant_id = $1 and agent_id = $2 and version = $3
"""
_PAGE = """
select agent_id, version, user_id, create_time, changed_fields, null as definition
from agent.agent_versions
where tenant_id = $1 and agent_id = $2 and ($3::bigint = 0 or version < $3)
order by version desc limit $4
"""


class VersionStore:
    """See `ports.VersionRows`."""

    async def insert(self, tx: Transaction, version: AgentVersion) -> None:
        """Add a version."""
        await tx.run(
            _INSERT,
            tx.tenant,
            version.agent_id,
            version.version,
            version.user_id,
            version.create_time,
            list(version.changed_fields),
            json.dumps(_definition(version.fields) if version.fields else {}),
        )

    async def get(self, tx: Transaction, agent_id: str, version: int) -> AgentVersion:
        """Return a version; AgentVersionNotFound."""
        row = await tx.fetch_one(_GET, tx.tenant, agent_id, version)
        if row is None:
            raise AgentVersionNotFound(agent_id, version)
        return _version(row)

    async def fields(self, tx: Transaction, agent_id: str, version: int) -> AgentFields:
        """Return the definition of a version; AgentVersionNotFound."""
        stored = await tx.fetch_value(_FIELDS, tx.tenant, agent_id, version)
        if stored is None:
            raise AgentVersionNotFound(agent_id, version)
        return fields_of(json.loads(stored))

    async def page(
        self, tx: Transaction, agent_id: str, *, before: int, limit: int
    ) -> list[AgentVersion]:
        """Return versions without their definitions, newest first."""
        rows = await tx.fetch(_PAGE, tx.tenant, agent_id, before, limit)
        return list(map(_version, rows))


def _definition(fields: AgentFields) -> dict[str, Any]:
    return {**asdict(fields), "memory_policy": fields.memory_policy.said}


def _version(row: Row) -> AgentVersion:
    definition = row["definition"]
    return AgentVersion(
        agent_id=row["agent_id"],
        version=row["version"],
        user_id=row["user_id"],
        create_time=row["create_time"],
        changed_fields=tuple(row["changed_fields"]),
        fields=None if definition is None else fields_of(json.loads(definition)),
    )
