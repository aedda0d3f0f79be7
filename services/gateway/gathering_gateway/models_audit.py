"""What is entered of what was done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done; texts are empty where there is nothing to say."""

    event_id: str
    time: datetime
    source: str
    action: str
    resource_id: str
    user_id: str
    actor: str
    delegation_id: str
    api_key_id: str
    request_id: str
    trace_id: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; empty and None: all."""

    user_id: str = ""
    resource_id: str = ""
    actions: tuple[str, ...] = ()
    after: datetime | None = None
    before: datetime | None = None
