"""The one place where it is decided whether a tool may run: schema, grant, quota, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from gathering_mesh.call import Call
from gathering_mesh.postgres import Transaction
from gathering_skills.catalogue import Catalogue
from gathering_skills.confined.globs import Glob, any_matches
from gathering_skills.confined.paths import normal
from gathering_skills.errors import (
    AgentNotYours,
    ArgumentsInvalid,
    FieldInvalid,
    ToolError,
    ToolNotGranted,
    TooManyExecutions,
)
from gathering_skills.models import Grant, JsonObject, Order
from gathering_skills.models_tools import Permission, ToolSpec
from gathering_skills.ports import ExecutionUpkeep, GrantRows, WorkspaceRows
from gathering_skills.results import size_of
from gathering_skills.tooling.tool import Tool

ARGUMENT_BYTES = 2 * 1024 * 1024
ADMINISTRATOR = "admin"
_AT_ONCE = 300  # More transactions than all replicas together have connections for.


@dataclass(frozen=True, slots=True)
class Admitted:
    """What may run; `asks`: for how long a person is asked first, None: nobody is."""

    tool: Tool
    asks: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How many executions of a tenant may wait or run at once."""

    live_executions: int = 500


class Boundary:
    """Admits what may run, and raises what refuses it."""

    def __init__(
        self,
        catalogue: Catalogue,
        grants: GrantRows,
        workspaces: WorkspaceRows,
        upkeep: ExecutionUpkeep,
        limits: Limits,
    ) -> None:
        self._catalogue = catalogue
        self._grants = grants
        self._workspaces = workspaces
        self._upkeep = upkeep
        self._limits = limits

    async def admit(self, tx: Transaction, call: Call, order: Order) -> Admitted:
        """Return the tool that an order may run, and whether a person is asked first.

        Raises ToolNotFound, ArgumentsInvalid, FieldInvalid, AgentNotYours, ToolNotGranted, NotFound
        (workspace), TooManyExecutions.
        """
        skill, tool = self._catalogue.find(order.tool)
        _require_own_cause(call, order)
        checked = _checked(tool, order)
        grants = await self._grants_of(tx, call, order.agent_id)
        asks = None
        if order.agent_id:
            asks = _allow_agent(skill, tool.spec, arguments=checked, grants=grants)
        else:
            _allow_user(call, tool.spec)
        if order.workspace_id:
            await self._workspaces.get(tx, order.workspace_id)
        await self._require_room(tx)
        return Admitted(tool, asks)

    async def recheck(self, tx: Transaction, order: Order) -> None:
        """Check that the agent of an order may still do it; ToolNotFound, ToolNotGranted."""
        skill, tool = self._catalogue.find(order.tool)
        checked = _checked(tool, order)
        grants = await self._grants.of_agent(tx, order.agent_id)
        _allow_agent(skill, tool.spec, arguments=checked, grants=grants)

    async def _require_room(self, tx: Transaction) -> None:
        """Raise TooManyExecutions at the limit. Near it the tenant's callers count one by one."""
        limit = self._limits.live_executions
        if await self._upkeep.live_count(tx, limit) < limit - _AT_ONCE:
            return
        await self._upkeep.lock_count(tx)
        if await self._upkeep.live_count(tx, limit) >= limit:
            raise TooManyExecutions(limit)

    async def granted(self, tx: Transaction, agent_id: str) -> list[tuple[str, ToolSpec]]:
        """Return the tools that an agent may use with their skills, by name."""
        grants = {grant.skill: grant for grant in await self._grants.of_agent(tx, agent_id)}
        return [
            (skill, tool.spec)
            for skill, tool in self._catalogue.tools()
            if skill in grants and tool.spec.permission in grants[skill].permissions
        ]

    async def _grants_of(self, tx: Transaction, call: Call, agent_id: str) -> Sequence[Grant]:
        if not agent_id:
            return ()
        if call.principal.actor is None and call.principal.role != ADMINISTRATOR:
            raise AgentNotYours("only services and administrators run tools as an agent")
        return await self._grants.of_agent(tx, agent_id)


def _require_own_cause(call: Call, order: Order) -> None:
    """Raise FieldInvalid where a user says that a turn or task asked: only its service knows."""
    if call.principal.actor is None:
        for field, value in (("turn_id", order.turn_id), ("task_id", order.task_id)):
            if value:
                raise FieldInvalid(field, "is set by the service that runs it; leave it empty")


def _checked(tool: Tool, order: Order) -> JsonObject:
    size = size_of(order.arguments)
    if size > ARGUMENT_BYTES:
        problem = f"has {size} bytes as JSON; at most {ARGUMENT_BYTES} are allowed"
        raise ArgumentsInvalid(order.tool, {"arguments": problem})
    checked = tool.check(order.arguments)
    if tool.spec.needs_workspace and not order.workspace_id:
        raise FieldInvalid("workspace_id", f"{order.tool} works in a workspace")
    return checked


def principal_of(call: Call) -> str:
    """Return who asks: the user, and the service that acts for them, if one does."""
    return "/".join(filter(None, (call.user, call.principal.actor)))


def _allow_user(call: Call, tool: ToolSpec) -> None:
    if tool.permission is not Permission.READ and call.principal.role != ADMINISTRATOR:
        raise ToolNotGranted(
            f"{tool.name} needs an administrator, or an agent to whom it is granted"
        )


def _allow_agent(
    skill: str, tool: ToolSpec, *, arguments: JsonObject, grants: Sequence[Grant]
) -> timedelta | None:
    """Return for how long a person is asked first, None if nobody is."""
    grant = next((grant for grant in grants if grant.skill == skill), None)
    if grant is None or tool.permission not in grant.permissions:
        raise ToolNotGranted(
            f"{tool.name} ({tool.permission} of {skill}) is not granted to the agent"
        )
    if grant.write_paths:
        _allow_paths(tool, arguments, grant.write_paths)
    return grant.approval_timeout if tool.permission in grant.ask_permissions else None


def _allow_paths(tool: ToolSpec, arguments: JsonObject, patterns: Sequence[str]) -> None:
    globs = [Glob(pattern, anchored=True) for pattern in patterns]
    for name in tool.written_paths:
        path = cast("str", arguments[name])
        try:
            granted = any_matches(globs, normal(path))
        except ToolError:  # a path that leads out
            granted = False
        if not granted:
            raise ToolNotGranted(
                f"arguments.{name}: {path!r} is not among the paths that the agent may write: "
                f"{', '.join(patterns)}"
            )
