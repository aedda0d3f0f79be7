"""The rows of offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row

from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.errors import OfferClosed, OfferNotFound
from gathering_orchestrator.store_tables import offers
from gathering_orchestrator.tasks.models import Offer, ScorePart, Task
from gathering_orchestrator.tasks.models_ranking import Ranked
from gathering_orchestrator.tasks.models_states import OfferState


class PostgresOffers:
    """See `ports.OfferStore`."""

    async def insert(
        self, tx: Transaction, task: Task, candidate: Ranked, timeout: timedelta
    ) -> Offer:
        """Write an open offer that expires after the timeout."""
        agent, mode = candidate.member.agent, candidate.member.mode
        statement = insert(offers).values(
            tenant_id=tx.tenant, id=new_id("off"), task_id=task.task_id,
            circle_id=task.fields.circle_id, agent_id=agent.agent_id, agent_name=agent.name,
            mode=mode.value, state=OfferState.OPEN.value, score=candidate.score,
            score_parts=[asdict(part) for part in candidate.parts], reason="", message="",
            search=task.search, open_tasks=candidate.member.metrics.open_tasks,
            create_time=func.now(), expire_time=func.now() + timeout,
        )  # fmt: skip
        return offer_of((await tx.execute(statement.returning(*offers.c))).one())

    async def get(self, tx: Transaction, task_id: str, offer_id: str) -> Offer:
        """Return an offer of a task; OfferNotFound."""
        query = select(offers).where(_is(tx, offer_id), offers.c.task_id == task_id)
        row = (await tx.execute(query)).one_or_none()
        if row is None:
            raise OfferNotFound(offer_id)
        return offer_of(row)

    async def of_task(self, tx: Transaction, task_id: str) -> list[Offer]:
        """Return the offers of a task, oldest first."""
        query = select(offers).where(offers.c.tenant_id == tx.tenant, offers.c.task_id == task_id)
        return [offer_of(row) for row in await tx.execute(query.order_by(offers.c.id))]

    async def close(
        self, tx: Transaction, offer: Offer, state: OfferState, reason: str = "", message: str = ""
    ) -> Offer:
        """Answer an open offer; OfferClosed if it is not open, or expired before an acceptance."""
        statement = (
            update(offers)
            .where(_is(tx, offer.offer_id), offers.c.state == OfferState.OPEN.value)
            .values(
                state=state.value,
                reason=reason,
                message=message,
                open_tasks=offer.open_tasks,
                answer_time=func.now(),
            )
            .returning(*offers.c)
        )
        if state is OfferState.ACCEPTED:
            statement = statement.where(offers.c.expire_time > func.clock_timestamp())
        row = (await tx.execute(statement)).one_or_none()
        if row is None:
            current = await self.get(tx, offer.task_id, offer.offer_id)
            was_open = current.state is OfferState.OPEN
            raise OfferClosed(offer.offer_id, OfferState.EXPIRED if was_open else current.state)
        return offer_of(row)

    async def first_open(self, tx: Transaction, agent_id: str, after: str = "") -> Offer | None:
        """Return the oldest open offer to a MANAGED agent that the id precedes (empty: of all)."""
        query = (
            select(offers)
            .where(offers.c.tenant_id == tx.tenant, offers.c.agent_id == agent_id)
            .where(offers.c.state == OfferState.OPEN.value, offers.c.id > after)
            .where(offers.c.mode == MemberMode.MANAGED.value)
            .where(offers.c.expire_time > func.now())
            .order_by(offers.c.id)
            .limit(1)
        )
        row = (await tx.execute(query)).one_or_none()
        return None if row is None else offer_of(row)

    async def open_for(self, tx: Transaction, circle_id: str, agent_id: str) -> Sequence[Offer]:
        """Return the open offers to an agent in a circle."""
        query = (
            select(offers)
            .where(offers.c.tenant_id == tx.tenant, offers.c.circle_id == circle_id)
            .where(offers.c.agent_id == agent_id, offers.c.state == OfferState.OPEN.value)
        )
        return [offer_of(row) for row in await tx.execute(query.order_by(offers.c.id))]


def _is(tx: Transaction, offer_id: str) -> ColumnElement[bool]:
    return and_(offers.c.tenant_id == tx.tenant, offers.c.id == offer_id)


def offer_of(row: Row[Any]) -> Offer:
    """Return the offer in a row."""
    return Offer(
        offer_id=row.id, task_id=row.task_id, agent_id=row.agent_id, agent_name=row.agent_name,
        mode=MemberMode(row.mode), state=OfferState(row.state), score=row.score,
        score_parts=tuple(ScorePart(**part) for part in row.score_parts), reason=row.reason,
        message=row.message, search=row.search, open_tasks=row.open_tasks,
        create_time=row.create_time, expire_time=row.expire_time, answer_time=row.answer_time,
    )  # fmt: skip
