"""The rows of turns that were asked for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.store_tables import turns
from gathering_orchestrator.tasks.models import Turn
from gathering_orchestrator.tasks.models_states import TurnOutcome


class PostgresTurns:
    """See `ports.TurnStore`."""

    async def insert(self, tx: Transaction, turn: Turn) -> None:
        """Write a turn before it is asked for."""
        await tx.execute(
            insert(turns).values(
                tenant_id=tx.tenant, id=turn.key, task_id=turn.task_id, review_id=turn.review_id,
                agent_id=turn.agent_id, session_id=turn.session_id, prompt=turn.prompt,
                turn_id=turn.turn_id, acknowledged=turn.acknowledged, outcome=None,
                reason=turn.reason,
            )
        )  # fmt: skip

    async def get(self, tx: Transaction, key: str) -> Turn | None:
        """Return the turn of this key, None if it was not prepared."""
        row = (await tx.execute(select(turns).where(_is(tx, key)))).one_or_none()
        return None if row is None else _turn(row)

    async def acknowledge(self, tx: Transaction, key: str, turn_id: str) -> None:
        """Keep the id that the agent service gave a turn."""
        await tx.execute(
            update(turns).where(_is(tx, key)).values(turn_id=turn_id, acknowledged=True)
        )

    async def expected(self, tx: Transaction, session_id: str) -> bool:
        """Tell whether a turn was asked for in this session of which no end is known."""
        query = (
            select(turns.c.id)
            .where(turns.c.tenant_id == tx.tenant, turns.c.session_id == session_id)
            .where(turns.c.outcome.is_(None))
        )
        return (await tx.execute(query)).first() is not None

    async def end(
        self, tx: Transaction, session_id: str, turn_id: str, outcome: TurnOutcome, reason: str
    ) -> bool:
        """Keep how a turn ended, also one whose id is not known yet; False: not one of ours."""
        ended = await tx.execute(
            update(turns)
            .where(turns.c.tenant_id == tx.tenant, turns.c.session_id == session_id)
            .where(or_(turns.c.turn_id == turn_id, turns.c.turn_id == ""))
            .where(turns.c.outcome.is_(None))
            .values(turn_id=turn_id, outcome=outcome.value, reason=reason)
        )
        return ended.rowcount > 0

    async def going_on(self, tx: Transaction, task_id: str) -> list[Turn]:
        """Return the turns of a task of which no end is known."""
        query = (
            select(turns)
            .where(turns.c.tenant_id == tx.tenant, turns.c.task_id == task_id)
            .where(turns.c.outcome.is_(None))
            .order_by(turns.c.id)
        )
        return [_turn(row) for row in await tx.execute(query)]


def _is(tx: Transaction, key: str) -> ColumnElement[bool]:
    return and_(turns.c.tenant_id == tx.tenant, turns.c.id == key)


def _turn(row: Row[Any]) -> Turn:
    return Turn(
        key=row.id, task_id=row.task_id, review_id=row.review_id, agent_id=row.agent_id,
        session_id=row.session_id, prompt=row.prompt, turn_id=row.turn_id,
        acknowledged=row.acknowledged,
        outcome=TurnOutcome(row.outcome) if row.outcome else None, reason=row.reason,
    )  # fmt: skip
