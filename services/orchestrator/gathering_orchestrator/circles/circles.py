"""Create, read and change circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from gathering_mesh.call import Call
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_orchestrator.circles.members import Members
from gathering_orchestrator.circles.models import Agent, Circle, CircleFields, MemberFields
from gathering_orchestrator.circles.ports import CircleStore
from gathering_orchestrator.errors import EtagStale, InvalidUpdateMask
from gathering_orchestrator.events import CircleCreated, CircleUpdated
from gathering_orchestrator.permission import store_permitted
from gathering_orchestrator.ports import Permits, Workspaces

UPDATABLE = frozenset(
    {"name", "purpose", "workspace_id", "requires_review", "max_rounds", "offer_timeout"}
)


@dataclass(frozen=True, slots=True)
class Circles:
    """The verbs of circles."""

    db: Database
    circles: CircleStore
    members: Members
    workspaces: Workspaces
    permits: Permits

    async def create(
        self, call: Call, fields: CircleFields, members: Sequence[MemberFields]
    ) -> Circle:
        """Create a circle with its first members; NotFound (agent, workspace)."""
        _check_name(fields.name)
        agent_ids = [member.agent_id for member in members]
        if len(set(agent_ids)) < len(agent_ids):
            raise InvalidArgument("an agent is given twice", fields={"members": "an agent twice"})
        if fields.workspace_id:
            await self.workspaces.check(call, fields.workspace_id)
        agents = await self.members.read_all(call, agent_ids)
        circle_id = new_id("crc")
        joining = list(zip(members, agents, strict=True))
        stored = await store_permitted(
            self.permits, call, circle_id, partial(self._store, call, circle_id, fields, joining)
        )
        await self.members.push(call, stored)
        return await self.get(call, stored)

    async def _store(
        self,
        call: Call,
        circle_id: str,
        fields: CircleFields,
        joining: Sequence[tuple[MemberFields, Agent]],
        delegation_id: str,
    ) -> str:
        async with self.db.mutation(call) as tx:
            if tx.replay is not None:
                return tx.replay
            circle = Circle(
                circle_id=circle_id, fields=fields, owner_user_id=call.user,
                delegation_id=delegation_id, version=1, members_version=0, pushed_version=0,
                create_time=datetime.now(UTC),
            )  # fmt: skip
            await self.circles.insert(tx, circle)
            tx.emit(circle_id, CircleCreated(circle_id, circle.fields.name))
            await self.members.join(tx, circle, joining)
            tx.result = circle_id
        return circle_id

    async def get(self, call: Call, circle_id: str) -> Circle:
        """Return a circle; CircleNotFound."""
        async with self.db.transaction(call) as tx:
            return await self.circles.get(tx, circle_id)

    async def page(self, call: Call, before: str, limit: int) -> list[Circle]:
        """Return circles, newest first, that are older than `before` (empty: all)."""
        async with self.db.transaction(call) as tx:
            return await self.circles.page(tx, before, limit)

    async def update(
        self, call: Call, circle_id: str, fields: CircleFields, mask: Sequence[str], etag: str
    ) -> Circle:
        """Change the fields that the mask names; EtagStale, InvalidUpdateMask."""
        paths = sorted(set(mask))
        unknown = [path for path in paths if path not in UPDATABLE]
        if unknown or not paths:
            problem = f"{', '.join(unknown) or 'nothing'} cannot be updated"
            raise InvalidUpdateMask(problem, fields={"update_mask": problem})
        if "name" in paths:
            _check_name(fields.name)
        if "workspace_id" in paths and fields.workspace_id:
            await self.workspaces.check(call, fields.workspace_id)
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                await self._change(tx, circle_id, fields, paths, etag)
                tx.result = circle_id
            return await self.circles.get(tx, circle_id)

    async def _change(
        self, tx: Transaction, circle_id: str, new: CircleFields, paths: Sequence[str], etag: str
    ) -> None:
        circle = await self.circles.lock(tx, circle_id)
        if etag and etag != circle.etag:
            raise EtagStale("the circle changed since it was read")
        changes = {path: getattr(new, path) for path in paths}
        fields = replace(circle.fields, **changes)
        await self.circles.save(tx, replace(circle, fields=fields, version=circle.version + 1))
        tx.emit(circle_id, CircleUpdated(circle_id, tuple(paths)))


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidArgument("a circle needs a name", fields={"circle.name": "is required"})
