"""Sessions as documents: written, and read with every field checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gathering_agent.errors import ArchiveTooLarge
from gathering_agent.models import JsonValue, Message, Role, Session, ToolCall, ToolResult
from gathering_agent.ports import Rows
from gathering_agent.sessions.images import pictures, problem_of
from gathering_agent.sessions.models import (
    MOST_ARCHIVED,
    Archive,
    ArchivedCall,
    ArchivedMessage,
    ArchivedResult,
    SessionFields,
)
from gathering_agent.sessions.models_images import MOST_IMAGE_BYTES
from gathering_agent.sessions.sessions import Sessions, new_session
from gathering_mesh.call import Call
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction

_PAGE = 50  # messages that are read at a time
_LARGEST = 3_000_000  # characters of a document's messages; its bytes are counted where it is made
_CLOCKS = timedelta(minutes=5)  # that may differ
_NAMED = 20  # problems; nobody corrects more at once


class Archives:
    """Exports and imports sessions."""

    def __init__(self, db: Database, rows: Rows, sessions: Sessions) -> None:
        self._db = db
        self._rows = rows
        self._sessions = sessions

    async def export(
        self, call: Call, session_id: str, after: int, *, images: bool = True
    ) -> Archive:
        """Return a session as a document; SessionNotFound, ArchiveTooLarge."""
        async with self._db.transaction(call) as tx:
            session = await self._sessions.visible(tx, call, session_id)
            agent = await self._rows.agents.get(tx, session.agent_id)
            messages = await self._messages(tx, session_id, after, images=images)
        if after:
            first = (n for n, message in enumerate(messages) if message.role is Role.USER)
            messages = messages[next(first, len(messages)) :]
        told = tuple(map(_told, messages))
        return Archive(session.title, told, agent.fields.name, datetime.now(UTC))

    async def _messages(
        self, tx: Transaction, session_id: str, after: int, *, images: bool
    ) -> list[Message]:
        found: list[Message] = []
        room, begin = _LARGEST, after
        while True:
            page = await self._rows.messages.page(tx, session_id, after=after, limit=_PAGE)
            if not images:
                page = [replace(message, images=()) for message in page]
            found += page
            room -= sum(map(_size, page))
            if room < 0 or len(found) > MOST_ARCHIVED:
                raise ArchiveTooLarge(
                    f"session {session_id} does not fit into a document; name a later "
                    f"`after_sequence` than {begin}, or leave out images"
                )
            if len(page) < _PAGE:
                return await self._rows.histories.images(tx, found)
            after = page[-1].sequence

    async def import_(
        self, call: Call, agent_id: str, archive: Archive, workspace_id: str
    ) -> Session:
        """Create a session from a document.

        Raises InvalidArgument with the fields that are wrong, AgentNotFound, AgentArchived.
        """
        wrong = dict(list(problems(archive))[:_NAMED])
        if wrong:
            path, problem = next(iter(wrong.items()))
            raise InvalidArgument(f"{path} {problem}", fields=wrong)
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.sessions.get(tx, tx.replay)
            await self._sessions.active(tx, agent_id)
            session = new_session(call, agent_id, SessionFields(archive.title), workspace_id)
            session = replace(session, imported=True)
            await self._sessions.add(tx, session)
            await self._rows.histories.add(tx, list(_brought_in(session, archive.messages)))
            tx.result = session.id
            return await self._rows.sessions.get(tx, session.id)


def problems(archive: Archive) -> Iterator[tuple[str, str]]:
    """Yield what makes a document no dialogue: the field's path, and what is wrong with it."""
    before: ArchivedMessage | None = None
    latest = datetime.now(UTC) + _CLOCKS
    earliest: datetime | None = None
    for place, message in enumerate(archive.messages):
        for field, problem in (*_misplaced(message, before), *_overfull(message)):
            yield f"archive.messages[{place}].{field}", problem
        if message.create_time is not None:
            if message.create_time > latest:
                yield f"archive.messages[{place}].create_time", "is in the future"
            if earliest is not None and message.create_time < earliest:
                yield f"archive.messages[{place}].create_time", "is before the message before"
            earliest = message.create_time
        before = message


def _misplaced(
    message: ArchivedMessage, before: ArchivedMessage | None
) -> Iterator[tuple[str, str]]:
    if before is None and message.role is not Role.USER:
        yield "role", "must be USER in the first message"
    if message.role is Role.TOOL:
        asked = len(before.tool_calls) if before is not None else 0
        if not asked:
            yield "role", "must not be TOOL where the message before asks for no tools"
        elif asked != len(message.tool_results):
            yield "tool_results", f"must answer each of the {asked} calls before"


def _overfull(message: ArchivedMessage) -> Iterator[tuple[str, str]]:
    if message.role is Role.USER and not message.text.strip():
        yield "text", "is missing"
    if message.role is not Role.ASSISTANT and message.tool_calls:
        yield "tool_calls", "belong to an ASSISTANT message"
    if message.role is not Role.TOOL and message.tool_results:
        yield "tool_results", "belong to a TOOL message"
    if message.role is not Role.USER and message.images:
        yield "images", "belong to a USER message"
    if sum(map(len, message.images)) > MOST_IMAGE_BYTES:
        yield "images", f"must have at most {MOST_IMAGE_BYTES} bytes together"
    for place, data in enumerate(message.images):
        if problem := problem_of(data):
            yield f"images[{place}].data", problem


def _brought_in(session: Session, messages: Sequence[ArchivedMessage]) -> Iterator[Message]:
    """Yield the messages of a new session, with ids of their own throughout."""
    asked: tuple[ToolCall, ...] = ()
    time = next((m.create_time for m in messages if m.create_time), None) or session.create_time
    for place, told in enumerate(messages):
        name = new_id("msg")
        results = tuple(
            ToolResult(call.call_id, call.tool, result.text, result.failed)
            for call, result in zip(asked, told.tool_results, strict=False)
        )
        asked = tuple(
            ToolCall(f"{name}:{n}", call.tool, call.arguments)
            for n, call in enumerate(told.tool_calls)
        )
        time = told.create_time or time
        yield Message(
            id=name,
            session_id=session.id,
            turn_id="",
            step=told.step,
            sequence=place + 1,
            role=told.role or Role.USER,
            text=told.text,
            tool_calls=asked,
            tool_results=results,
            create_time=time,
            images=pictures(told.images),
        )


def _told(message: Message) -> ArchivedMessage:
    return ArchivedMessage(
        role=message.role,
        text=message.text,
        tool_calls=tuple(ArchivedCall(c.tool, c.arguments) for c in message.tool_calls),
        tool_results=tuple(ArchivedResult(r.text, r.failed) for r in message.tool_results),
        create_time=message.create_time,
        step=message.step,
        images=tuple(image.data for image in message.images),
    )


def _size(message: Message) -> int:
    texts = len(message.text) + sum(len(result.text) for result in message.tool_results)
    asked = sum(len(call.tool) + _length(call.arguments) for call in message.tool_calls)
    return texts + asked + sum(image.size for image in message.images)


def _length(value: JsonValue) -> int:
    """Return the characters of the texts in a value, which its document has at the least."""
    if isinstance(value, dict):
        return sum(len(key) + _length(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(map(_length, value))
    return len(value) if isinstance(value, str) else 1
