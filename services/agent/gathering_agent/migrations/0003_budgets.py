"""Budgets; attempts at model calls are rows before they are made, and say what they cost."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0003"
down_revision = "0002"

# Soft deletion: calls that are in flight are still booked where they were reserved.
_BUDGETS = """
    tenant_id text not null,
    id text not null,
    level text not null check (level in ('tenant', 'task', 'agent', 'session', 'turn')),
    subject_id text not null check ((subject_id = '') = (level = 'tenant')),
    parent_id text,
    owner_user_id text not null,
    by_admin boolean not null,
    max_tokens bigint check (max_tokens >= 0),
    max_cost bigint check (max_cost >= 0),
    max_calls bigint check (max_calls >= 0),
    max_seconds double precision check (max_seconds >= 0),
    spent_tokens bigint not null default 0 check (spent_tokens >= 0),
    spent_cost bigint not null default 0 check (spent_cost >= 0),
    spent_calls bigint not null default 0 check (spent_calls >= 0),
    reserved_tokens bigint not null default 0 check (reserved_tokens >= 0),
    reserved_cost bigint not null default 0 check (reserved_cost >= 0),
    reserved_calls bigint not null default 0 check (reserved_calls >= 0),
    version bigint not null default 1,
    create_time timestamptz not null default clock_timestamp(),
    update_time timestamptz not null default clock_timestamp(),
    delete_time timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, parent_id) references agent.budgets (tenant_id, id),
    check (parent_id is null or level = 'task')
"""
# An attempt that has no end is in flight, or its replica was lost: it holds its bound, which is
# reserved on `budgets`. Attempts that no budget bounds are written when they end.
_ATTEMPTS = (
    "alter column end_time drop not null",
    "add column start_time timestamptz",
    "add column agent_id text not null default ''",
    "add column session_id text not null default ''",
    "add column task_id text not null default ''",
    "add column owner_user_id text not null default ''",
    "add column cached_tokens bigint not null default 0 check (cached_tokens >= 0)",
    "add column cache_write_tokens bigint not null default 0 check (cache_write_tokens >= 0)",
    "add column cost bigint check (cost >= 0)",  # micro-USD; null: not known
    "add column unsent boolean not null default false",
    "add column budgets text[] not null default '{}'",
    "add column reserved_tokens bigint not null default 0 check (reserved_tokens >= 0)",
    "add column reserved_cost bigint not null default 0 check (reserved_cost >= 0)",
    "add check (end_time is not null or estimated)",
)
_BACKFILL = """
update agent.model_attempts a set agent_id = t.agent_id, session_id = t.session_id,
    task_id = t.task_id, owner_user_id = t.owner_user_id
from agent.turns t where t.tenant_id = a.tenant_id and t.id = a.turn_id
"""
_TURNS = (
    "add column cached_tokens bigint not null default 0",
    "add column cost bigint",
    "add column failed_cost bigint",
    "add column refusal jsonb",
)
_INDEXES = (
    "create unique index budgets_one_per_subject on agent.budgets (tenant_id, level, subject_id) "
    "where delete_time is null",
    "create index on agent.budgets (tenant_id, parent_id) where parent_id is not null",
    "create index on agent.model_attempts (tenant_id, end_time)",
    "create index on agent.model_attempts (tenant_id, owner_user_id, end_time)",
)


def upgrade() -> None:
    """Add what is new."""
    op.execute(f"create table agent.budgets ({_BUDGETS})")
    tenant_table(op, "budgets", schema="agent")
    op.execute(f"alter table agent.model_attempts {', '.join(_ATTEMPTS)}")
    op.execute(_BACKFILL)
    op.execute(f"alter table agent.turns {', '.join(_TURNS)}")
    for index in _INDEXES:
        op.execute(index)
