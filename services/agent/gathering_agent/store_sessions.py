"""The rows of sessions and messages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.engine import Row

from gathering_agent.errors import SessionNotFound
from gathering_agent.models import Message, Native, Role, Session, ToolCall, ToolResult
from gathering_agent.store import messages, sessions
from gathering_mesh.postgres import Transaction


class SessionStore:
    """See `ports.SessionRows`."""

    async def insert(self, tx: Transaction, session: Session) -> None:
        """Add a session."""
        await tx.execute(insert(sessions).values(tenant_id=tx.tenant, **asdict(session)))

    async def get(self, tx: Transaction, session_id: str, *, lock: bool = False) -> Session:
        """Return a session; SessionNotFound."""
        query = select(sessions).where(
            sessions.c.tenant_id == tx.tenant, sessions.c.id == session_id
        )
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise SessionNotFound(session_id)
        return _session(row)

    async def page(
        self, tx: Transaction, *, owner: str, agent_id: str, before: str, limit: int
    ) -> list[Session]:
        """Return an owner's sessions, newest first."""
        query = select(sessions).where(
            sessions.c.tenant_id == tx.tenant, sessions.c.owner_user_id == owner
        )
        if agent_id:
            query = query.where(sessions.c.agent_id == agent_id)
        if before:
            query = query.where(sessions.c.id < before)
        rows = await tx.execute(query.order_by(sessions.c.id.desc()).limit(limit))
        return [_session(row) for row in rows]

    async def set_delegation(self, tx: Transaction, session_id: str, delegation_id: str) -> None:
        """Remember the right to work for the owner."""
        mine = (sessions.c.tenant_id == tx.tenant, sessions.c.id == session_id)
        await tx.execute(update(sessions).where(*mine).values(delegation_id=delegation_id))


class MessageStore:
    """See `ports.MessageRows`."""

    async def append(self, tx: Transaction, message: Message) -> Message:
        """Add a message as the next of its session, whose row it locks."""
        mine = (sessions.c.tenant_id == tx.tenant, sessions.c.id == message.session_id)
        counted = {
            "message_count": sessions.c.message_count + 1,
            "last_message_time": func.clock_timestamp(),
        }
        place = (
            await tx.execute(
                update(sessions)
                .where(*mine)
                .values(counted)
                .returning(sessions.c.message_count, sessions.c.last_message_time)
            )
        ).one()
        values = {
            "tenant_id": tx.tenant,
            "id": message.id,
            "session_id": message.session_id,
            "turn_id": message.turn_id,
            "step": message.step,
            "sequence": place.message_count,
            "role": message.role.value,
            "text": message.text,
            "tool_calls": [asdict(call) for call in message.tool_calls],
            "tool_results": [asdict(result) for result in message.tool_results],
            "native": None if message.native is None else asdict(message.native),
            "generation": message.generation,
            "create_time": place.last_message_time,
        }
        row = (await tx.execute(insert(messages).values(values).returning(messages))).one()
        return _message(row)

    async def page(
        self, tx: Transaction, session_id: str, *, after: int, limit: int
    ) -> list[Message]:
        """Return messages of a session above a sequence, oldest first."""
        query = self._of_session(tx, session_id).where(messages.c.sequence > after)
        rows = await tx.execute(query.order_by(messages.c.sequence).limit(limit))
        return [_message(row) for row in rows]

    async def latest(self, tx: Transaction, session_id: str, *, limit: int) -> list[Message]:
        """Return the last messages of a session, oldest first."""
        query = self._of_session(tx, session_id).order_by(messages.c.sequence.desc()).limit(limit)
        return [_message(row) for row in await tx.execute(query)][::-1]

    async def of_turn(self, tx: Transaction, turn_id: str, *, after: int = 0) -> list[Message]:
        """Return the messages of a turn above a sequence, oldest first."""
        query = select(messages).where(
            messages.c.tenant_id == tx.tenant,
            messages.c.turn_id == turn_id,
            messages.c.sequence > after,
        )
        return [_message(row) for row in await tx.execute(query.order_by(messages.c.sequence))]

    def _of_session(self, tx: Transaction, session_id: str) -> Any:
        return select(messages).where(
            messages.c.tenant_id == tx.tenant, messages.c.session_id == session_id
        )


def _session(row: Row[Any]) -> Session:
    return Session(
        id=row.id,
        agent_id=row.agent_id,
        owner_user_id=row.owner_user_id,
        title=row.title,
        workspace_id=row.workspace_id,
        delegation_id=row.delegation_id,
        create_time=row.create_time,
        last_message_time=row.last_message_time,
        message_count=row.message_count,
    )


def _message(row: Row[Any]) -> Message:
    return Message(
        id=row.id,
        session_id=row.session_id,
        turn_id=row.turn_id,
        step=row.step,
        sequence=row.sequence,
        role=Role(row.role),
        text=row.text,
        tool_calls=tuple(ToolCall(**call) for call in row.tool_calls),
        tool_results=tuple(ToolResult(**result) for result in row.tool_results),
        native=None if row.native is None else Native(**row.native),
        generation=row.generation,
        create_time=row.create_time,
    )
