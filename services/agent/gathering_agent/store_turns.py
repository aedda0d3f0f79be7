"""The rows of turns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Row

from gathering_agent.errors import SessionBusy, TurnNotFound
from gathering_agent.models import (
    LIVE,
    Background,
    Limits,
    Recalled,
    StopReason,
    Turn,
    TurnState,
    Usage,
)
from gathering_agent.ports import TurnFilter
from gathering_agent.store import turns
from gathering_mesh import postgres_errors
from gathering_mesh.postgres import Transaction

ONE_LIVE_TURN = "turns_one_live"


class TurnStore:
    """See `ports.TurnRows`."""

    async def insert(self, tx: Transaction, turn: Turn) -> None:
        """Add a turn; SessionBusy where another of the session lives."""
        values = {
            "tenant_id": tx.tenant,
            "id": turn.id,
            "session_id": turn.session_id,
            "agent_id": turn.agent_id,
            "owner_user_id": turn.owner_user_id,
            "task_id": turn.task_id,
            "max_steps": turn.limits.max_steps,
            "max_tool_calls": turn.limits.max_tool_calls,
            "result_schema": turn.result_schema,
            "trace": turn.trace,
            "create_time": turn.create_time,
            **_values(turn),
        }
        with postgres_errors.unique(ONE_LIVE_TURN, lambda: SessionBusy("")):
            await tx.execute(insert(turns).values(values))

    async def get(self, tx: Transaction, turn_id: str, *, lock: bool = False) -> Turn:
        """Return a turn; TurnNotFound."""
        query = select(turns).where(turns.c.tenant_id == tx.tenant, turns.c.id == turn_id)
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise TurnNotFound(turn_id)
        return _turn(row)

    async def page(
        self, tx: Transaction, which: TurnFilter, *, before: str, limit: int
    ) -> list[Turn]:
        """Return turns, newest first."""
        wanted = {
            turns.c.owner_user_id: which.owner,
            turns.c.session_id: which.session_id,
            turns.c.task_id: which.task_id,
            turns.c.agent_id: which.agent_id,
        }
        query = select(turns).where(turns.c.tenant_id == tx.tenant)
        query = query.where(*(column == value for column, value in wanted.items() if value))
        if before:
            query = query.where(turns.c.id < before)
        rows = await tx.execute(query.order_by(turns.c.id.desc()).limit(limit))
        return [_turn(row) for row in rows]

    async def live(self, tx: Transaction, session_id: str) -> str:
        """Return the turn of a session that has not ended, empty if there is none."""
        query = select(turns.c.id).where(
            turns.c.tenant_id == tx.tenant,
            turns.c.session_id == session_id,
            turns.c.state.in_(LIVE),
        )
        return (await tx.execute(query)).scalar_one_or_none() or ""

    async def update(self, tx: Transaction, turn: Turn) -> None:
        """Write what changes while a turn lives."""
        mine = (turns.c.tenant_id == tx.tenant, turns.c.id == turn.id)
        await tx.execute(update(turns).where(*mine).values(_values(turn)))


def _values(turn: Turn) -> dict[str, Any]:
    return {
        "state": turn.state.value,
        "model_calls": turn.usage.model_calls,
        "tool_calls": turn.usage.tool_calls,
        "input_tokens": turn.usage.input_tokens,
        "output_tokens": turn.usage.output_tokens,
        "text": turn.text,
        "result": turn.result,
        "stop_reason": turn.stop_reason.value if turn.stop_reason else "",
        "error_reason": turn.error_reason,
        "error_message": turn.error_message,
        "model": turn.model,
        "background": None if turn.background is None else asdict(turn.background),
        "end_time": turn.end_time,
    }


def _turn(row: Row[Any]) -> Turn:
    return Turn(
        id=row.id,
        session_id=row.session_id,
        agent_id=row.agent_id,
        owner_user_id=row.owner_user_id,
        task_id=row.task_id,
        state=TurnState(row.state),
        limits=Limits(row.max_steps, row.max_tool_calls),
        result_schema=row.result_schema,
        create_time=row.create_time,
        usage=Usage(row.model_calls, row.tool_calls, row.input_tokens, row.output_tokens),
        text=row.text,
        result=row.result,
        stop_reason=StopReason(row.stop_reason) if row.stop_reason else None,
        error_reason=row.error_reason,
        error_message=row.error_message,
        model=row.model,
        background=_background(row.background),
        trace=row.trace,
        end_time=row.end_time,
    )


def _background(stored: dict[str, Any] | None) -> Background | None:
    if stored is None:
        return None
    memories = tuple(Recalled(**memory) for memory in stored["memories"])
    return Background(memories, stored["recall_failed"])
