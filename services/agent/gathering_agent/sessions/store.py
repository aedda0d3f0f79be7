"""The rows of sessions and messages. Plain SQL: these run several times in each turn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gathering_agent.context.models import Report, Strategy
from gathering_agent.errors import ImageNotFound, MessageNotFound, SessionNotFound
from gathering_agent.models import Message, Native, Role, Session, ToolCall, ToolResult, as_text
from gathering_agent.sessions import store_images
from gathering_agent.sessions.models import SessionFilter
from gathering_agent.sessions.models_images import Image
from gathering_agent.sessions.store_recent import Recent
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

_NO_END = 2**62
_SESSION = """
select id, agent_id, owner_user_id, title, workspace_id, delegation_id, create_time,
    last_message_time, message_count, version, parent_session_id, parent_message_id, imported,
    condensed_upto, resume_strategy
from agent.sessions where tenant_id = $1
"""
_SEARCH = """
with candidate as (
    select * from agent.sessions
    where tenant_id = $1 and owner_user_id = $2 and delete_time is null
        and ($3 = '' or agent_id = $3) and ($4 = '' or workspace_id = $4)
        and ($5 = '' or parent_session_id = $5) and ($6 = '' or id < $6)
    order by id desc limit $7)
select id, agent_id, owner_user_id, title, workspace_id, delegation_id, create_time,
    last_message_time, message_count, version, parent_session_id, parent_message_id, imported,
    condensed_upto, resume_strategy, $8 = '' or strpos(lower(title), lower($8)) > 0 or exists (
        select from agent.messages m
        where m.tenant_id = $1 and m.session_id = candidate.id and m.role <> 'tool'
            and m.sequence is not null
            and strpos(lower(m.text), lower($8)) > 0) as found
from candidate order by id desc
"""
_MESSAGE = """
select id, session_id, coalesce(turn_id, '') as turn_id, step, sequence, role, text,
    tool_calls::text, tool_results::text, native::text, images::text, generation, create_time
from agent.messages where tenant_id = $1
"""
_LATEST = f"""
{_MESSAGE} and session_id = $2 and sequence > $3 and sequence < $4
order by sequence desc limit $5
"""
_INSERT_SESSION = """
insert into agent.sessions (tenant_id, id, agent_id, owner_user_id, title, workspace_id,
    delegation_id, create_time, last_message_time, message_count, parent_session_id,
    parent_message_id, imported, resume_strategy)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
_UPDATE_SESSION = """
update agent.sessions set title = $3, version = $4, resume_strategy = $5
where tenant_id = $1 and id = $2
"""
# What every insert of a message names, with `message_values` in that order.
MESSAGE_COLUMNS = """tenant_id, id, session_id, turn_id, step, role, text, tool_calls, tool_results,
    native, generation, images"""
MESSAGE_PLACES = """$1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb,
    $10::text::jsonb, $11, $12::text::jsonb"""
_APPEND = f"""
with place as (
    update agent.sessions
    set message_count = message_count + 1, last_message_time = clock_timestamp()
    where tenant_id = $1 and id = $3 and delete_time is null
    returning message_count as sequence, last_message_time as create_time)
insert into agent.messages ({MESSAGE_COLUMNS}, context, sequence, create_time)
select {MESSAGE_PLACES}, $13::text::jsonb, place.sequence, place.create_time from place
returning sequence, create_time
"""  # noqa: S608 (names of columns)


class SessionStore:
    """See `ports.SessionRows`."""

    async def insert(self, tx: Transaction, session: Session) -> None:
        """Add a session."""
        await tx.run(
            _INSERT_SESSION,
            tx.tenant,
            session.id,
            session.agent_id,
            session.owner_user_id,
            session.title,
            session.workspace_id,
            session.delegation_id,
            session.create_time,
            session.last_message_time,
            session.message_count,
            session.parent_session_id,
            session.parent_message_id,
            session.imported,
            session.resume_strategy.value,
        )

    async def get(
        self, tx: Transaction, session_id: str, *, lock: bool = False, deleted: bool = False
    ) -> Session:
        """Return a session; SessionNotFound."""
        kept = "" if deleted else " and delete_time is null"
        query = f"{_SESSION} and id = $2{kept}{' for update' if lock else ''}"
        row = await tx.fetch_one(query, tx.tenant, session_id)
        if row is None:
            raise SessionNotFound(session_id)
        return _session(dict(row))

    async def page(
        self, tx: Transaction, which: SessionFilter, *, before: str, limit: int
    ) -> list[tuple[Session, bool]]:
        """Return sessions, newest first, each with whether it holds the text."""
        rows = await tx.fetch(
            _SEARCH,
            tx.tenant,
            which.owner,
            which.agent_id,
            which.workspace_id,
            which.parent_session_id,
            before,
            limit,
            which.query,
        )
        return [_found(dict(row)) for row in rows]

    async def update(self, tx: Transaction, session: Session) -> None:
        """Write title, strategy and version."""
        strategy = session.resume_strategy.value
        title, version = session.title, session.version
        await tx.run(_UPDATE_SESSION, tx.tenant, session.id, title, version, strategy)


class MessageStore:
    """See `ports.MessageRows`."""

    def __init__(self) -> None:
        self._recent = Recent()

    def forget(self, tenant: str, session_id: str) -> None:
        """Keep nothing of a session in memory."""
        self._recent.forget((tenant, session_id))

    async def append(
        self, tx: Transaction, message: Message, report: Report | None = None
    ) -> Message:
        """Add a message as the next of its session, whose row it locks."""
        told = None if report is None else as_text(report)
        row = await tx.fetch_one(_APPEND, *message_values(tx, message), told)
        if row is None:
            raise SessionNotFound(message.session_id)
        await store_images.keep(tx, (message,))
        return replace(message, sequence=row["sequence"], create_time=row["create_time"])

    async def page(
        self, tx: Transaction, session_id: str, *, after: int, limit: int
    ) -> list[Message]:
        """Return messages of a session above a sequence, oldest first."""
        query = f"{_MESSAGE} and session_id = $2 and sequence > $3 order by sequence limit $4"
        return list(map(_message, await tx.fetch(query, tx.tenant, session_id, after, limit)))

    async def latest(
        self, tx: Transaction, session_id: str, *, limit: int, after: int = 0, before: int = _NO_END
    ) -> list[Message]:
        """Return the last messages of a session between two sequences, oldest first.

        Before the transaction adds any: some are kept in memory, see `store_recent`.
        """

        async def fetch(after: int, before: int, limit: int) -> list[Message]:
            rows = await tx.fetch(_LATEST, tx.tenant, session_id, after, before, limit)
            return list(map(_message, reversed(rows)))

        of = tx.tenant, session_id
        return await self._recent.latest(of, fetch, after=after, before=before, limit=limit)

    async def image(self, tx: Transaction, session_id: str, message_id: str, place: int) -> Image:
        """Return an image of a message with its data; MessageNotFound, ImageNotFound."""
        query = f"{_MESSAGE} and session_id = $2 and id = $3 and sequence is not null"
        row = await tx.fetch_one(query, tx.tenant, session_id, message_id)
        if row is None:
            raise MessageNotFound(message_id)
        (message,) = await store_images.load(tx, [_message(row)], [message_id])
        if place >= len(message.images):
            raise ImageNotFound(message_id, place)
        return message.images[place]

    async def of_turn(self, tx: Transaction, turn_id: str, *, after: int = 0) -> list[Message]:
        """Return the messages of a turn above a sequence, oldest first."""
        query = f"{_MESSAGE} and turn_id = $2 and sequence > $3 order by sequence"
        return list(map(_message, await tx.fetch(query, tx.tenant, turn_id, after)))


def message_values(tx: Transaction, message: Message) -> tuple[object, ...]:
    """Return the values of `MESSAGE_PLACES`."""
    return (
        tx.tenant,
        message.id,
        message.session_id,
        message.turn_id,
        message.step,
        message.role.value,
        message.text,
        as_text(message.tool_calls),
        as_text(message.tool_results),
        None if message.native is None else as_text(message.native),
        message.generation,
        store_images.as_json(message.images),
    )


def _found(row: dict[str, Any]) -> tuple[Session, bool]:
    found = bool(row.pop("found"))
    return _session(row), found


def _session(row: dict[str, Any]) -> Session:
    return Session(**{**row, "resume_strategy": Strategy(row["resume_strategy"])})


def _message(row: Row) -> Message:
    native = row["native"]
    return Message(
        id=row["id"],
        session_id=row["session_id"],
        turn_id=row["turn_id"],
        step=row["step"],
        sequence=row["sequence"],
        role=Role(row["role"]),
        text=row["text"],
        tool_calls=tuple(ToolCall(**call) for call in _listed(row["tool_calls"])),
        tool_results=tuple(ToolResult(**result) for result in _listed(row["tool_results"])),
        native=None if native is None else Native(**json.loads(native)),
        images=store_images.of_json(row["images"]),
        generation=row["generation"],
        create_time=row["create_time"],
    )


def _listed(text: str) -> Sequence[Any]:
    """Return a list of JSON; most are empty, and a turn reads a hundred of them."""
    found: Sequence[Any] = () if text == "[]" else json.loads(text)
    return found
