"""What the verbs of circles need of the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.models import Agent, Circle, Member, MemberFields


class CircleStore(Protocol):
    """Rows of circles."""

    async def insert(self, tx: Transaction, circle: Circle) -> None:
        """Write a new circle."""

    async def get(self, tx: Transaction, circle_id: str) -> Circle:
        """Return a circle; CircleNotFound."""

    async def lock(self, tx: Transaction, circle_id: str) -> Circle:
        """Return a circle that nobody else changes until the end of the transaction."""

    async def page(self, tx: Transaction, before: str, limit: int) -> list[Circle]:
        """Return circles, newest first, that are older than the id (empty: all)."""

    async def save(self, tx: Transaction, circle: Circle) -> None:
        """Write a locked circle back."""


class MemberStore(Protocol):
    """Rows of members."""

    async def put(self, tx: Transaction, circle_id: str, member: MemberFields) -> bool:
        """Write a member, in place of its former row; return whether it is new."""

    async def remove(self, tx: Transaction, circle_id: str, agent_id: str) -> bool:
        """Delete a member; return whether there was one."""

    async def list(self, tx: Transaction, circle_id: str) -> list[Member]:
        """Return the members by name."""

    async def get(self, tx: Transaction, circle_id: str, agent_id: str) -> Member | None:
        """Return a member, None if the agent is none."""

    async def hold(self, tx: Transaction, circle_id: str, agent_id: str) -> bool:
        """Keep a member from being removed until the end of the transaction; False: it is gone."""


class MetricsStore(Protocol):
    """Counts of what members did."""

    async def recount(self, tx: Transaction, circle_id: str, agent_id: str) -> None:
        """Derive a member's metrics from the rows of its tasks and reviews."""


class AgentStore(Protocol):
    """Copies of agents."""

    async def keep(self, tx: Transaction, agent: Agent) -> None:
        """Write a copy, unless the one that is there is newer."""

    async def lock(self, tx: Transaction, agent_id: str) -> None:
        """Let nobody else give this agent a task until the end of the transaction."""

    async def open_task_ids(self, tx: Transaction, agent_id: str) -> list[str]:
        """Return the tasks that the agent is at work on, in all circles, by id."""

    async def permits(self, tx: Transaction, agent_id: str) -> Sequence[str]:
        """Return delegations under which the agent may be read again: those of its circles."""


class OfferWithdrawal(Protocol):
    """What a member leaves behind when it is removed."""

    async def withdraw(self, tenant: str, circle_id: str, agent_id: str) -> None:
        """Take back the agent's open offers in the circle."""


class Waiting(Protocol):
    """Tasks that look for a candidate."""

    async def wake(self, tenant: str, circle_id: str) -> None:
        """Have the circle's waiting tasks look for a candidate again."""
