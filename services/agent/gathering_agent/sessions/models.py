"""What is asked about sessions, and a session as a document."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gathering_agent.context.models import Strategy
from gathering_agent.models import JsonObject, Role

MOST_ARCHIVED = 10_000  # messages of a document
FORMAT = 1  # of documents


@dataclass(frozen=True, slots=True)
class SessionFields:
    """What a user says of a session, and may change."""

    title: str = ""
    resume_strategy: Strategy = Strategy.AUTO


SESSION_FIELDS = tuple(SessionFields.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list; empty: all of the owner's."""

    owner: str
    agent_id: str = ""
    query: str = ""
    workspace_id: str = ""
    parent_session_id: str = ""


@dataclass(frozen=True, slots=True)
class ArchivedCall:
    """A tool that the model asked for."""

    tool: str
    arguments: JsonObject


@dataclass(frozen=True, slots=True)
class ArchivedResult:
    """What came of the call at the same place of the message before."""

    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class ArchivedMessage:
    """A message without ids."""

    role: Role | None  # None: not told
    text: str = ""
    tool_calls: tuple[ArchivedCall, ...] = ()
    tool_results: tuple[ArchivedResult, ...] = ()
    create_time: datetime | None = None
    step: int = 0
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Archive:
    """A session as a document."""

    title: str
    messages: tuple[ArchivedMessage, ...]
    agent_name: str = ""
    export_time: datetime | None = None
    format_version: int = FORMAT
