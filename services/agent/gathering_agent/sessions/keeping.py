"""What becomes of sessions: named anew, forked, deleted for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gathering_agent.errors import BadUpdateMask, SessionBusy, StaleEtag
from gathering_agent.events import SessionDeleted, SessionUpdated
from gathering_agent.models import Session
from gathering_agent.ports import Rows
from gathering_agent.sessions.models import SESSION_FIELDS, SessionFields
from gathering_agent.sessions.sessions import Sessions, new_session
from gathering_agent.turns.turns import Turns
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database

_TRIES = 3  # to end turns that begin while a session is deleted


def session_etag(session: Session) -> str:
    """Return the opaque text that changes with each update."""
    return f"v{session.version}"


class Keeping:
    """The verbs on sessions as wholes."""

    def __init__(self, db: Database, rows: Rows, sessions: Sessions, turns: Turns) -> None:
        self._db = db
        self._rows = rows
        self._sessions = sessions
        self._turns = turns

    async def update(
        self, call: Call, session_id: str, fields: SessionFields, mask: Sequence[str], etag: str
    ) -> Session:
        """Change the fields that the mask names.

        Raises BadUpdateMask, StaleEtag, SessionNotFound, NotTheOwner.
        """
        unknown = sorted(set(mask) - set(SESSION_FIELDS))
        if unknown or not mask:
            can = ", ".join(SESSION_FIELDS)
            raise BadUpdateMask(
                f"cannot update {', '.join(unknown) or 'nothing'}; can: {can}",
                fields={"update_mask": f"unknown: {', '.join(unknown)}" if unknown else "is empty"},
            )
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.sessions.get(tx, tx.replay)
            session = await self._sessions.owned(tx, call, session_id, lock=True)
            if etag and etag != session_etag(session):
                raise StaleEtag(f"session {session_id} was changed since it was read")
            changed = {name: getattr(fields, name) for name in dict.fromkeys(mask)}
            session = replace(session, **changed, version=session.version + 1)
            await self._rows.sessions.update(tx, session)
            updated = SessionUpdated(session.id, session.agent_id, call.user, tuple(changed))
            tx.emit(session.id, updated, audience=(call.user,))
            tx.result = session.id
        return session

    async def fork(self, call: Call, session_id: str, message_id: str, title: str) -> Session:
        """Create a session with a copy of the messages up to one.

        Raises SessionNotFound, NotTheOwner, MessageNotFound, AgentArchived.
        """
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.sessions.get(tx, tx.replay)
            # Locked, so that nobody deletes it meanwhile.
            parent = await self._sessions.owned(tx, call, session_id, lock=True)
            upto = await self._rows.histories.place(tx, parent.id, message_id)
            await self._sessions.active(tx, parent.agent_id)
            fields = SessionFields(title or parent.title, parent.resume_strategy)
            fork = new_session(call, parent.agent_id, fields, parent.workspace_id)
            fork = replace(fork, parent_session_id=parent.id, parent_message_id=message_id)
            await self._sessions.add(tx, fork)
            await self._rows.histories.copy(tx, parent.id, fork.id, upto)
            tx.result = fork.id
            return await self._rows.sessions.get(tx, fork.id)

    async def delete(self, call: Call, session_id: str, *, force: bool) -> str:
        """Delete a session for good and return its id; SessionNotFound, SessionBusy.

        A turn is cancelled in a transaction of its own, before: its worker locks the work first and
        the session after. Who dies in between has cancelled the turn, and repeats the rest.
        """
        keyless = replace(call, request_key=None)  # the key is the deletion's
        for _ in range(_TRIES - 1):
            try:
                return await self._delete(call, session_id)
            except SessionBusy as busy:
                if not force:
                    raise
                await self._turns.cancel_waiting(keyless, session_id)
                await self._turns.cancel(keyless, busy.metadata["resource"])
        return await self._delete(call, session_id)

    async def _delete(self, call: Call, session_id: str) -> str:
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return tx.replay
            session = await self._sessions.visible(tx, call, session_id, lock=True)
            living = await self._rows.turns.live(tx, session_id)
            if living:
                raise SessionBusy(living)
            await self._rows.histories.erase(tx, session_id)
            owner = session.owner_user_id
            deleted = SessionDeleted(session.id, session.agent_id, owner)
            tx.emit(session.id, deleted, audience=(owner,))
            tx.result = session_id
        return session_id
