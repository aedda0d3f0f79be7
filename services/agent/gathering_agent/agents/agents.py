"""Agents: create, change, archive, and ask whether they take a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gathering_agent.agents.models import (
    UPDATABLE,
    Agent,
    AgentFields,
    AgentState,
    AgentTemplate,
    AgentVersion,
    ContextPolicy,
)
from gathering_agent.agents.templates import Templates, filled
from gathering_agent.errors import BadUpdateMask, StaleEtag
from gathering_agent.events import AgentArchived, AgentCreated, AgentUpdated
from gathering_agent.ports import Rows
from gathering_agent.providers.lines import Lines
from gathering_mesh.call import Call
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction

_NAMED_TASKS = 5  # in the words of a refusal


@dataclass(frozen=True, slots=True)
class Offer:
    """A task that an agent may take."""

    task_id: str
    title: str
    required_competences: tuple[str, ...]
    open_task_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Consideration:
    """What the agent says to an offer."""

    accepted: bool
    reason: str = ""
    message: str = ""


class Agents:
    """The verbs on agents."""

    def __init__(self, db: Database, rows: Rows, lines: Lines, templates: Templates) -> None:
        self._db = db
        self._rows = rows.agents
        self._versions = rows.versions
        self._lines = lines
        self._templates = templates

    async def create(self, call: Call, fields: AgentFields, template: str = "") -> Agent:
        """Create an agent; InvalidArgument, TemplateNotFound, ModelNotConfigured."""
        if template:
            fields = filled(fields, self._templates.get(template).fields)
        check_competences(fields)
        check_chain(fields)
        if not fields.name.strip():
            raise InvalidArgument("an agent needs a name", fields={"agent.name": "is missing"})
        usable = await self._lines.usable(call.tenant)
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            named = {name: getattr(fields, name) for name in UPDATABLE}
            self._lines.check(_models_in(named), usable)
            now = datetime.now(UTC)
            agent = Agent(
                new_id("agt"), fields, AgentState.ACTIVE, 1, call.user, now, now, template=template
            )
            await self._rows.insert(tx, agent)
            await self._versions.insert(tx, _version(call, agent))
            tx.emit(agent.id, AgentCreated(agent.id, fields.name, fields.persona.role, template))
            tx.result = agent.id
        return agent

    async def get(self, call: Call, agent_id: str) -> Agent:
        """Return an agent; AgentNotFound."""
        async with self._db.transaction(call) as tx:
            return await self._rows.get(tx, agent_id)

    async def page(self, call: Call, *, archived: bool, before: str, limit: int) -> list[Agent]:
        """Return agents, newest first."""
        async with self._db.transaction(call) as tx:
            return await self._rows.page(tx, archived=archived, before=before, limit=limit)

    async def update(
        self, call: Call, agent_id: str, fields: AgentFields, mask: Sequence[str], etag: str
    ) -> Agent:
        """Change the fields that the mask names; BadUpdateMask, StaleEtag, AgentNotFound."""
        changes = _changes(fields, mask)
        check_competences(fields if "competences" in changes else AgentFields())
        usable = await self._lines.usable(call.tenant)
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            self._lines.check(_models_in(changes), usable)
            agent = await self._rows.get(tx, agent_id, lock=True)
            if etag and etag != etag_of(agent):
                raise StaleEtag(f"agent {agent_id} was changed since it was read")
            agent = await self._define(tx, call, agent, changes)
            tx.result = agent.id
        return agent

    async def _define(
        self, tx: Transaction, call: Call, agent: Agent, changes: dict[str, Any]
    ) -> Agent:
        """Give an agent, whose row is locked, a new version of its definition."""
        agent = replace(agent, fields=replace(agent.fields, **changes))
        check_chain(agent.fields)
        agent = _touched(replace(agent, definition=agent.definition + 1))
        await self._rows.update(tx, agent)
        await self._versions.insert(tx, _version(call, agent, tuple(changes)))
        tx.emit(agent.id, AgentUpdated(agent.id, tuple(changes), agent.definition))
        return agent

    async def version(self, call: Call, agent_id: str, version: int) -> AgentVersion:
        """Return a version of an agent's definition; AgentNotFound, AgentVersionNotFound."""
        async with self._db.transaction(call) as tx:
            await self._rows.get(tx, agent_id)
            return await self._versions.get(tx, agent_id, version)

    async def versions(
        self, call: Call, agent_id: str, *, before: int, limit: int
    ) -> list[AgentVersion]:
        """Return the versions of an agent's definition, newest first; AgentNotFound."""
        async with self._db.transaction(call) as tx:
            await self._rows.get(tx, agent_id)
            return await self._versions.page(tx, agent_id, before=before, limit=limit)

    @property
    def templates(self) -> tuple[AgentTemplate, ...]:
        """Return the templates, by name."""
        return self._templates.all

    def template(self, name: str) -> AgentTemplate:
        """Return a template; TemplateNotFound."""
        return self._templates.get(name)

    async def archive(self, call: Call, agent_id: str) -> Agent:
        """Have an agent take no turns and no offers; AgentNotFound."""
        return await self._move(call, agent_id, AgentState.ARCHIVED)

    async def restore(self, call: Call, agent_id: str) -> Agent:
        """Bring an archived agent back; AgentNotFound."""
        return await self._move(call, agent_id, AgentState.ACTIVE)

    async def _move(self, call: Call, agent_id: str, state: AgentState) -> Agent:
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            agent = await self._rows.get(tx, agent_id, lock=True)
            tx.result = agent.id
            if agent.state is state:
                return agent
            agent = _touched(replace(agent, state=state))
            await self._rows.update(tx, agent)
            archived = state is AgentState.ARCHIVED
            tx.emit(agent.id, AgentArchived(agent.id) if archived else _restored(agent))
        return agent

    async def consider(self, call: Call, agent_id: str, offer: Offer) -> Consideration:
        """Return what an agent says to an offer; AgentNotFound."""
        return consider(await self.get(call, agent_id), offer)


def consider(agent: Agent, offer: Offer) -> Consideration:
    """Decide by the agent's own state, limit and competences."""
    if agent.state is AgentState.ARCHIVED:
        return Consideration(False, "archived", f"{agent.fields.name} is archived.")
    others = [task for task in offer.open_task_ids if task != offer.task_id]
    if len(others) >= agent.task_limit:
        named = ", ".join(others[:_NAMED_TASKS])
        more = f" and {len(others) - _NAMED_TASKS} more" if len(others) > _NAMED_TASKS else ""
        return Consideration(
            False, "at_capacity", f"Works on {named}{more}; its limit is {agent.task_limit}."
        )
    wanted = {name.lower() for name in offer.required_competences}
    known = {competence.name for competence in agent.fields.competences if competence.strength > 0}
    if wanted and not wanted & known:
        have = ", ".join(sorted(known)) or "none"
        return Consideration(
            False, "competence", f"Has none of {', '.join(sorted(wanted))}; has {have}."
        )
    return Consideration(True)


def etag_of(agent: Agent) -> str:
    """Return the opaque text that changes with each update."""
    return f"v{agent.version}"


def _touched(agent: Agent) -> Agent:
    return replace(agent, version=agent.version + 1, update_time=datetime.now(UTC))


def _restored(agent: Agent) -> AgentUpdated:
    return AgentUpdated(agent.id, ("state",), agent.definition)


def _version(call: Call, agent: Agent, changed: tuple[str, ...] = ()) -> AgentVersion:
    return AgentVersion(
        agent.id, agent.definition, call.user, agent.update_time, changed, agent.fields
    )


def _changes(fields: AgentFields, mask: Sequence[str]) -> dict[str, Any]:
    unknown = sorted(set(mask) - set(UPDATABLE))
    if unknown or not mask:
        raise BadUpdateMask(
            f"cannot update {', '.join(unknown) or 'nothing'}; can: {', '.join(UPDATABLE)}",
            fields={"update_mask": f"unknown: {', '.join(unknown)}" if unknown else "is empty"},
        )
    if "name" in mask and not fields.name.strip():
        raise InvalidArgument("an agent needs a name", fields={"agent.name": "is missing"})
    return {name: getattr(fields, name) for name in UPDATABLE if name in mask}


def check_competences(fields: AgentFields) -> None:
    names = [competence.name for competence in fields.competences]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidArgument(
            f"competences are named twice: {', '.join(doubled)}",
            fields={"agent.competences": "names must differ"},
        )


def check_chain(fields: AgentFields) -> None:
    """Raise InvalidArgument where the models that are asked in turn do not differ."""
    chain = [fields.model, *fields.fallback_models]
    doubled = {name for name in fields.fallback_models if not name or chain.count(name) > 1}
    if doubled:
        raise InvalidArgument(
            f"models are named twice, or empty: {', '.join(sorted(doubled))}",
            fields={"agent.fallback_models": "must be names that differ, also from `model`"},
        )


def _models_in(changes: dict[str, Any]) -> list[str]:
    """Return the models that are named anew."""
    named = [changes["model"]] if "model" in changes else []
    policy = changes.get("context_policy") or ContextPolicy()
    condensing = [policy.condensing_model] if policy.condensing_model else []
    return [*named, *condensing, *changes.get("fallback_models", ())]
