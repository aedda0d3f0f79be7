"""Who belongs to a circle, what the circle knows of them, and that the memory service knows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError, NotFound, ResourceExhausted
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.work import Lease
from gathering_orchestrator.circles.models import Agent, Circle, Member, MemberFields
from gathering_orchestrator.circles.ports import (
    AgentStore,
    CircleStore,
    MemberStore,
    MetricsStore,
    OfferWithdrawal,
    Waiting,
)
from gathering_orchestrator.errors import CircleNotFound, PermitRevoked, passes
from gathering_orchestrator.events import CircleMemberAdded, CircleMemberRemoved
from gathering_orchestrator.ports import Agents, Memory, Permits
from gathering_orchestrator.tasks.ports import Clock

_log = logging.getLogger(__name__)
PUSH = "membership"  # work: tell the memory service who belongs to a circle
REFRESH = "refresh"  # work: read an agent anew; its id is <agent id>/<position of the event>
_SEPARATOR = "/"
_GRACE = timedelta(seconds=5)  # the call that changed the members tells by itself, if it lives
_MOST_MEMBERS = 1000  # as many as the memory service takes for a scope
_READS = 10  # agents that are read at a time


@dataclass(frozen=True, slots=True)
class Members:
    """The verbs of members, and the work that goes on after them."""

    db: Database
    clock: Clock
    circles: CircleStore
    members: MemberStore
    metrics: MetricsStore
    copies: AgentStore
    agents: Agents
    memory: Memory
    permits: Permits
    withdrawal: OfferWithdrawal
    waiting: Waiting

    async def add(self, call: Call, circle_id: str, fields: MemberFields) -> Member:
        """Add an agent, or replace its fields; NotFound, CircleNotFound."""
        agent = await self.agents.get(call, fields.agent_id)
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                circle = await self.circles.lock(tx, circle_id)
                await self.join(tx, circle, [(fields, agent)])
                tx.result = fields.agent_id
        await self.push(call, circle_id)
        await self.waiting.wake(call.tenant, circle_id)
        async with self.db.transaction(call) as tx:
            member = await self.members.get(tx, circle_id, fields.agent_id)
        if member is None:
            raise NotFound(f"{fields.agent_id} was removed from {circle_id} meanwhile")
        return member

    async def remove(self, call: Call, circle_id: str, agent_id: str) -> None:
        """Remove an agent, which may be none of the circle's; CircleNotFound."""
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                circle = await self.circles.lock(tx, circle_id)
                if await self.members.remove(tx, circle_id, agent_id):
                    await self._changed(tx, circle)
                    tx.emit(circle_id, CircleMemberRemoved(circle_id, agent_id))
                tx.result = agent_id
        await self.withdrawal.withdraw(call.tenant, circle_id, agent_id)
        await self.push(call, circle_id)

    async def listed(self, call: Call, circle_id: str) -> list[Member]:
        """Return the members by name; CircleNotFound."""
        async with self.db.transaction(call) as tx:
            await self.circles.get(tx, circle_id)
            return await self.members.list(tx, circle_id)

    async def read_all(self, call: Call, agent_ids: Sequence[str]) -> list[Agent]:
        """Return agents in the order asked for; NotFound if one is not there."""
        gate = asyncio.Semaphore(_READS)

        async def read(agent_id: str) -> Agent:
            async with gate:
                return await self.agents.get(call, agent_id)

        return await asyncio.gather(*map(read, agent_ids))

    async def join(
        self, tx: Transaction, circle: Circle, joining: Sequence[tuple[MemberFields, Agent]]
    ) -> None:
        """Write members of a locked or new circle; a worker will tell the memory service."""
        for fields, agent in sorted(joining, key=lambda one: one[0].agent_id):
            await self.copies.keep(tx, agent)
            if await self.members.put(tx, circle.circle_id, fields):
                await self.metrics.recount(tx, circle.circle_id, fields.agent_id)
                tx.emit(
                    circle.circle_id,
                    CircleMemberAdded(circle.circle_id, fields.agent_id, agent.name),
                )
        if len(await self.members.list(tx, circle.circle_id)) > _MOST_MEMBERS:
            raise ResourceExhausted(f"a circle has at most {_MOST_MEMBERS} members")
        await self._changed(tx, circle)

    async def _changed(self, tx: Transaction, circle: Circle) -> None:
        await self.circles.save(tx, replace(circle, members_version=circle.members_version + 1))
        due = await self.clock.now(tx) + _GRACE
        await tx.schedule(PUSH, circle.circle_id, due)

    async def push(self, call: Call, circle_id: str) -> None:
        """Have the memory service take the membership as it is now, unless it has."""
        async with self.db.transaction(call) as tx:
            circle = await self.circles.get(tx, circle_id)
            if circle.pushed_version >= circle.members_version:
                return
            members = await self.members.list(tx, circle_id)
        await self.memory.set_members(
            call,
            circle_id=circle_id,
            version=circle.members_version,
            agent_ids=[member.agent.agent_id for member in members],
            user_ids=[circle.owner_user_id],
        )
        async with self.db.transaction(call) as tx:
            current = await self.circles.lock(tx, circle_id)
            if current.pushed_version < circle.members_version:
                await self.circles.save(tx, replace(current, pushed_version=circle.members_version))

    async def push_again(self, lease: Lease) -> None:
        """Handle the work of kind `membership`: push what a call left behind."""
        async with self.db.transaction(lease.tenant) as tx:
            try:
                circle = await self.circles.get(tx, lease.id)
            except CircleNotFound:
                circle = None
        if circle is not None and circle.pushed_version < circle.members_version:
            await self._push_as_owner(lease.tenant, circle)
        async with lease.transaction() as tx:
            await lease.done(tx)

    async def _push_as_owner(self, tenant: str, circle: Circle) -> None:
        """Push, unless the owner's permission has ended: then the next who calls does."""
        try:
            call = await self.permits.call(tenant, circle.delegation_id)
        except PermitRevoked:
            _log.warning("nobody permits to tell of the members of %s", circle.circle_id)
            return
        await self.push(call, circle.circle_id)

    async def heard_of(self, tx: Transaction, agent_id: str, position: int) -> None:
        """React to a change of an agent: read it anew, if a circle knows it."""
        if await self.copies.permits(tx, agent_id):
            await tx.schedule(REFRESH, f"{agent_id}{_SEPARATOR}{position}")

    async def refresh(self, lease: Lease) -> None:
        """Handle the work of kind `refresh`: read an agent under the permission of a circle."""
        agent_id = lease.id.partition(_SEPARATOR)[0]
        async with self.db.transaction(lease.tenant) as tx:
            permits = await self.copies.permits(tx, agent_id)
        agent = await self._read_as_any(lease.tenant, permits, agent_id)
        async with lease.transaction() as tx:
            if agent is not None:
                await self.copies.keep(tx, agent)
            await lease.done(tx)

    async def _read_as_any(
        self, tenant: str, permits: Sequence[str], agent_id: str
    ) -> Agent | None:
        """Return the agent as the first user sees it who still permits that; None: nobody does."""
        for delegation_id in permits:
            try:
                call = await self.permits.call(tenant, delegation_id)
                return await self.agents.get(call, agent_id)
            except NotFound:
                return None
            except DomainError as error:
                if passes(error):
                    raise
        return None
