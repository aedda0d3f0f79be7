"""Sessions: conversations of a user with an agent."""

from __future__ import annotations

from datetime import UTC, datetime

from gathering_agent.errors import AgentArchived, NotTheOwner, SessionNotFound
from gathering_agent.events import SessionCreated
from gathering_agent.models import AgentState, Message, Session
from gathering_agent.ports import Authority, Rows
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction

ADMIN = "admin"


class Sessions:
    """The verbs on sessions."""

    def __init__(self, db: Database, rows: Rows, authority: Authority) -> None:
        self._db = db
        self._rows = rows
        self._authority = authority

    async def create(self, call: Call, agent_id: str, title: str, workspace_id: str) -> Session:
        """Create a session of the caller; AgentNotFound, AgentArchived."""
        async with self._db.mutation(call) as tx:
            if tx.replay:
                session = await self._rows.sessions.get(tx, tx.replay)
            else:
                agent = await self._rows.agents.get(tx, agent_id)
                if agent.state is AgentState.ARCHIVED:
                    raise AgentArchived(agent_id)
                session = _new(call, agent_id, title, workspace_id)
                await self._rows.sessions.insert(tx, session)
                created = SessionCreated(session.id, agent_id, call.user)
                tx.emit(session.id, created, audience=(call.user,))
                tx.result = session.id
        return await self.delegated(call, session)

    async def delegated(self, call: Call, session: Session) -> Session:
        """Return the session with the owner's delegation, which is asked for where it is missing.

        After the commit that made the session, under an id derived from it: a repetition, also
        after a crash between the two, finds the same delegation.
        """
        if session.delegation_id:
            return session
        delegation_id = await self._authority.delegate(call, session.id)
        async with self._db.transaction(call) as tx:
            await self._rows.sessions.set_delegation(tx, session.id, delegation_id)
            return await self._rows.sessions.get(tx, session.id)

    async def get(self, call: Call, session_id: str) -> Session:
        """Return a session that the caller may see; SessionNotFound."""
        async with self._db.transaction(call) as tx:
            return await self.visible(tx, call, session_id)

    async def visible(
        self, tx: Transaction, call: Call, session_id: str, *, lock: bool = False
    ) -> Session:
        """Return a session of the caller, or any for an administrator; SessionNotFound."""
        session = await self._rows.sessions.get(tx, session_id, lock=lock)
        if not may_see(call, session.owner_user_id):
            raise SessionNotFound(session_id)
        return session

    async def owned(
        self, tx: Transaction, call: Call, session_id: str, *, lock: bool = False
    ) -> Session:
        """Return a session in which the caller may speak; SessionNotFound, NotTheOwner."""
        session = await self.visible(tx, call, session_id, lock=lock)
        if session.owner_user_id != call.user:
            raise NotTheOwner("only its owner speaks in a session")
        return session

    async def page(self, call: Call, *, agent_id: str, before: str, limit: int) -> list[Session]:
        """Return the caller's sessions, newest first."""
        async with self._db.transaction(call) as tx:
            return await self._rows.sessions.page(
                tx, owner=call.user, agent_id=agent_id, before=before, limit=limit
            )

    async def messages(
        self, call: Call, session_id: str, *, after: int, limit: int
    ) -> list[Message]:
        """Return messages of a session, oldest first; SessionNotFound."""
        async with self._db.transaction(call) as tx:
            await self.visible(tx, call, session_id)
            return await self._rows.messages.page(tx, session_id, after=after, limit=limit)


def may_see(call: Call, owner: str) -> bool:
    """Tell whether the caller is the owner or an administrator of the tenant."""
    return call.user == owner or call.principal.role == ADMIN


def _new(call: Call, agent_id: str, title: str, workspace_id: str) -> Session:
    return Session(
        id=new_id("ses"),
        agent_id=agent_id,
        owner_user_id=call.user,
        title=title,
        workspace_id=workspace_id,
        delegation_id="",
        create_time=datetime.now(UTC),
        last_message_time=None,
        message_count=0,
    )
