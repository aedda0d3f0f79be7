"""Sessions: conversations of a user with an agent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from gathering_agent.agents.models import Agent, AgentState
from gathering_agent.errors import AgentArchived, NotTheOwner, SessionNotFound
from gathering_agent.events import SessionCreated
from gathering_agent.models import Message, Right, Session
from gathering_agent.ports import Authority, Rows
from gathering_agent.sessions.models import SessionFields, SessionFilter
from gathering_agent.sessions.models_images import Image
from gathering_mesh.call import Call
from gathering_mesh.errors import (
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction

ADMIN = "admin"
_RIGHTS = 4096  # remembered
_SEARCHED = 500  # sessions that a page of a search looks through


class _Key(NamedTuple):
    tenant: str
    user: str
    session_id: str
    root: str


def _key(call: Call, session_id: str) -> _Key:
    root = call.principal.delegation or call.principal.api_key or ""
    return _Key(call.tenant, call.user, session_id, root)


class Sessions:
    """The verbs on sessions."""

    def __init__(self, db: Database, rows: Rows, authority: Authority) -> None:
        self._db = db
        self._rows = rows
        self._authority = authority
        self._rights: dict[_Key, Right] = {}  # of sessions that were the caller's; checked again

    async def create(
        self, call: Call, agent_id: str, fields: SessionFields, workspace_id: str
    ) -> Session:
        """Create a session of the caller; AgentNotFound, AgentArchived."""
        async with self._db.mutation(call) as tx:
            if tx.replay:
                session = await self._rows.sessions.get(tx, tx.replay)
            else:
                await self.active(tx, agent_id)
                session = new_session(call, agent_id, fields, workspace_id)
                await self.add(tx, session)
                tx.result = session.id
        await self.right(call, session.id)
        return session

    async def active(self, tx: Transaction, agent_id: str) -> Agent:
        """Return an agent that takes turns; AgentNotFound, AgentArchived."""
        agent = await self._rows.agents.get(tx, agent_id)
        if agent.state is AgentState.ARCHIVED:
            raise AgentArchived(agent_id)
        return agent

    async def add(self, tx: Transaction, session: Session) -> None:
        """Store a new session."""
        await self._rows.sessions.insert(tx, session)
        created = SessionCreated(
            session.id,
            session.agent_id,
            session.owner_user_id,
            session.parent_session_id,
            session.imported,
        )
        tx.emit(session.id, created, audience=(session.owner_user_id,))

    async def right(self, call: Call, session_id: str) -> str:
        """Return a delegation of the caller for a session of theirs, made where none is good.

        One per token that it is made with: what an agent does for a task ends with the task's
        delegation, what it does for its user's own words does not. Raises as `owned` does.
        """
        right = await self._right(call, session_id)
        if await self._revoked(call, right):
            async with self._db.transaction(call) as tx:
                await self._rows.rights.drop(tx, right)
            self._rights.pop(_key(call, session_id), None)
            right = await self._right(call, session_id)
        return right.delegation_id

    async def _right(self, call: Call, session_id: str) -> Right:
        key = _key(call, session_id)
        if key in self._rights:
            return self._rights[key]
        async with self._db.transaction(call) as tx:
            await self.owned(tx, call, session_id)
            right = await self._rows.rights.get(tx, session_id, key.root)
        if not right.delegation_id:
            given = await self._authority.delegate(call, session_id, right.name)
            right = replace(right, delegation_id=given)
            async with self._db.transaction(call) as tx:
                await self._rows.rights.keep(tx, right)
        if len(self._rights) >= _RIGHTS:
            self._rights.pop(next(iter(self._rights)))
        self._rights[key] = right
        return right

    async def _revoked(self, call: Call, right: Right) -> bool:
        """Tell whether a delegation is known to have ended; a gateway away tells nothing."""
        try:
            await self._authority.call(call.tenant, right.delegation_id, call.trace)
        except Unauthenticated as error:
            return error.reason == "CREDENTIALS_REVOKED"
        except (Unavailable, DeadlineExceeded, ResourceExhausted, Internal):
            return False
        return False

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

    async def page(
        self, call: Call, which: SessionFilter, *, before: str, size: int
    ) -> tuple[list[Session], str]:
        """Return sessions, newest first, and where the next page begins (empty: nowhere).

        A search looks at so many sessions at most, so that a page is answered in time.
        """
        scan = max(size + 1, _SEARCHED) if which.query else size + 1
        async with self._db.transaction(call) as tx:
            rows = await self._rows.sessions.page(tx, which, before=before, limit=scan)
        fitting = [session for session, found in rows if found]
        if len(fitting) > size:
            return fitting[:size], fitting[size - 1].id
        return fitting, rows[-1][0].id if len(rows) == scan else ""

    async def messages(
        self, call: Call, session_id: str, *, after: int, limit: int
    ) -> list[Message]:
        """Return messages of a session, oldest first; SessionNotFound."""
        async with self._db.transaction(call) as tx:
            await self.visible(tx, call, session_id)
            return await self._rows.messages.page(tx, session_id, after=after, limit=limit)

    async def image(self, call: Call, session_id: str, message_id: str, place: int) -> Image:
        """Return an image of a message; SessionNotFound, MessageNotFound, ImageNotFound."""
        async with self._db.transaction(call) as tx:
            await self.visible(tx, call, session_id)
            return await self._rows.messages.image(tx, session_id, message_id, place)


def may_see(call: Call, owner: str) -> bool:
    """Tell whether the caller is the owner or an administrator of the tenant."""
    return call.user == owner or call.principal.role == ADMIN


def new_session(call: Call, agent_id: str, fields: SessionFields, workspace_id: str) -> Session:
    """Return an empty session of the caller."""
    return Session(
        id=new_id("ses"),
        agent_id=agent_id,
        owner_user_id=call.user,
        title=fields.title,
        resume_strategy=fields.resume_strategy,
        workspace_id=workspace_id,
        delegation_id="",
        create_time=datetime.now(UTC),
        last_message_time=None,
        message_count=0,
    )
