"""Proto to model and back, for sessions and their documents; pure."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf import timestamp_pb2

from gathering.agent.v1 import session_archive_pb2, session_pb2, session_service_pb2
from gathering_agent.context.convert import STRATEGIES, strategy_of
from gathering_agent.context.models import Strategy
from gathering_agent.convert import ROLES, struct, timestamp, unstruct
from gathering_agent.errors import ArchiveTooLarge
from gathering_agent.models import Session
from gathering_agent.sessions.models import (
    MOST_ARCHIVED,
    Archive,
    ArchivedCall,
    ArchivedMessage,
    ArchivedResult,
    SessionFields,
)

LARGEST_ARCHIVE = 3_000_000  # bytes; below what a message may have, also as JSON of usual text


def session_message(session: Session, etag: str) -> session_pb2.Session:
    """Return a session as the contract has it."""
    return session_pb2.Session(
        session_id=session.id,
        agent_id=session.agent_id,
        owner_user_id=session.owner_user_id,
        title=session.title,
        workspace_id=session.workspace_id,
        create_time=timestamp(session.create_time),
        last_message_time=timestamp(session.last_message_time),
        message_count=session.message_count,
        etag=etag,
        parent_session_id=session.parent_session_id,
        parent_message_id=session.parent_message_id,
        imported=session.imported,
        resume_strategy=STRATEGIES[session.resume_strategy],
    )


def fields_of(
    said: session_pb2.Session | session_service_pb2.CreateSessionRequest,
) -> SessionFields:
    """Return what a user says of a session."""
    return SessionFields(said.title, strategy_of(said.resume_strategy) or Strategy.AUTO)


def archive_message(archive: Archive) -> session_archive_pb2.SessionArchive:
    """Return a document as the contract has it; ArchiveTooLarge."""
    message = session_archive_pb2.SessionArchive(
        format_version=archive.format_version,
        title=archive.title,
        agent_name=archive.agent_name,
        export_time=timestamp(archive.export_time),
        messages=map(_archived, archive.messages),
    )
    return _checked(message)


def archive_of(message: session_archive_pb2.SessionArchive) -> Archive:
    """Return a document as it was sent; ArchiveTooLarge."""
    return Archive(
        title=message.title,
        messages=tuple(map(_archived_of, _checked(message).messages)),
        agent_name=message.agent_name,
        format_version=message.format_version,
    )


def _checked(message: session_archive_pb2.SessionArchive) -> session_archive_pb2.SessionArchive:
    size = message.ByteSize()
    if size > LARGEST_ARCHIVE or len(message.messages) > MOST_ARCHIVED:
        raise ArchiveTooLarge(
            f"the document has {len(message.messages)} messages and {size} bytes; at most "
            f"{MOST_ARCHIVED} and {LARGEST_ARCHIVE} are taken"
        )
    return message


def _archived(message: ArchivedMessage) -> session_archive_pb2.ArchivedMessage:
    return session_archive_pb2.ArchivedMessage(
        role=ROLES[message.role] if message.role else session_pb2.MESSAGE_ROLE_UNSPECIFIED,
        text=message.text,
        tool_calls=[
            session_archive_pb2.ArchivedToolCall(tool=c.tool, arguments=struct(c.arguments))
            for c in message.tool_calls
        ],
        tool_results=[
            session_archive_pb2.ArchivedToolResult(text=r.text, failed=r.failed)
            for r in message.tool_results
        ],
        create_time=timestamp(message.create_time),
        step=message.step,
        images=[session_pb2.ImageInput(data=data) for data in message.images],
    )


def _archived_of(message: session_archive_pb2.ArchivedMessage) -> ArchivedMessage:
    roles = {value: role for role, value in ROLES.items()}
    return ArchivedMessage(
        role=roles.get(message.role),
        text=message.text,
        tool_calls=tuple(
            ArchivedCall(call.tool, unstruct(call.arguments)) for call in message.tool_calls
        ),
        tool_results=tuple(
            ArchivedResult(result.text, result.failed) for result in message.tool_results
        ),
        create_time=_moment(message.create_time) if message.HasField("create_time") else None,
        step=message.step,
        images=tuple(image.data for image in message.images),
    )


def _moment(stamp: timestamp_pb2.Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
