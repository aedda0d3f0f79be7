"""What model calls used, told apart by time and names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Bucket(StrEnum):
    """How time is cut, in UTC."""

    NONE = ""
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Dimension(StrEnum):
    """What is told apart besides; in the order of rows."""

    AGENT = "agent"
    MODEL = "model"
    TASK = "task"
    SESSION = "session"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Period:
    """From a moment up to another, which is not included."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which calls to count; empty: all."""

    user_id: str = ""
    agent_id: str = ""
    session_id: str = ""
    task_id: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What to tell."""

    which: UsageFilter
    bucket: Bucket
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class After:
    """Behind which row: its time, if time was cut, and its names."""

    time: datetime | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What calls of one time and kind used; costs in micro-USD."""

    time: datetime | None
    names: tuple[str, ...]  # of the dimensions that were asked for
    calls: int
    failed_calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated_tokens: int
    cost: int
    unpriced_calls: int
