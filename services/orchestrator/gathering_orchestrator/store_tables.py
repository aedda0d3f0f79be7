"""The tables; the migrations create them, with the keys and checks that keep the invariants."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    Interval,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(schema="orchestrator")


def _text(*names: str) -> list[Column[Any]]:
    return [Column(name, Text) for name in names]


def _times(*names: str) -> list[Column[Any]]:
    return [Column(name, DateTime(timezone=True)) for name in names]


def _table(name: str, *columns: Column[Any], key: tuple[str, ...] = ("id",)) -> Table:
    keys = [Column(part, Text, primary_key=True) for part in ("tenant_id", *key)]
    return Table(name, metadata, *keys, *columns)


circles = _table(
    "circles",
    *_text("name", "purpose", "workspace_id", "owner_user_id", "delegation_id"),
    Column("requires_review", Boolean),
    Column("max_rounds", Integer),
    Column("offer_timeout", Interval),
    Column("version", BigInteger),
    Column("members_version", BigInteger),
    Column("pushed_version", BigInteger),
    *_times("create_time"),
)
agents = _table(
    "agents",
    *_text("name"),
    Column("competences", JSONB),
    Column("archived", Boolean),
    Column("max_concurrent_tasks", Integer),
    *_times("update_time"),
)
members = _table(
    "members",
    *_text("mode"),
    Column("can_review", Boolean),
    Column("completed", Integer),
    Column("failed", Integer),
    Column("reviews", Integer),
    Column("approved", Integer),
    Column("score_sum", Double),
    *_times("join_time"),
    key=("circle_id", "agent_id"),
)
tasks = _table(
    "tasks",
    *_text("circle_id", "title", "description", "workspace_id", "state", "state_message"),
    *_text("assigned_agent_id", "assigned_mode", "summary", "session_id"),
    *_text("owner_user_id", "delegation_id", "trace", "parent_task_id"),
    Column("acceptance_criteria", ARRAY(Text)),
    Column("required_competences", ARRAY(Text)),
    Column("priority", Integer),
    Column("requires_review", Boolean),
    Column("max_tool_calls", Integer),
    Column("max_rounds", Integer),
    Column("offer_timeout", Interval),
    Column("round", Integer),
    Column("submitted_round", Integer),
    Column("search", Integer),
    Column("version", BigInteger),
    *_times("search_time", "create_time", "update_time", "end_time"),
)
offers = _table(
    "offers",
    *_text("task_id", "circle_id", "agent_id", "agent_name", "mode", "state"),
    *_text("reason", "message"),
    Column("score", Double),
    Column("score_parts", JSONB),
    Column("search", Integer),
    Column("open_tasks", Integer),
    *_times("create_time", "expire_time", "answer_time"),
)
reviews = _table(
    "reviews",
    *_text("task_id", "circle_id", "author_agent_id", "reviewer_agent_id", "reviewer_name"),
    *_text("reviewer_user_id", "mode", "verdict", "comment"),
    Column("round", Integer),
    Column("score", Double),
    Column("criteria", JSONB),
    *_times("create_time", "end_time"),
)
artifacts = _table(
    "artifacts",
    Column("round", Integer, primary_key=True),
    Column("path", Text, primary_key=True),
    *_text("sha256"),
    Column("size_bytes", BigInteger),
    key=("task_id",),
)
turns = _table(
    "turns",
    *_text("task_id", "review_id", "agent_id", "session_id", "prompt", "turn_id"),
    *_text("outcome", "reason"),
    Column("acknowledged", Boolean),
    *_times("create_time"),
)
