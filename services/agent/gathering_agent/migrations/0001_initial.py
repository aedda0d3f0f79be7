"""Agents, sessions, messages, turns."""

from alembic import op

from gathering_mesh.migration import mesh_tables, tenant_table

revision = "0001"
down_revision = None

_TABLES = {
    "agents": """
        tenant_id text not null,
        id text not null,
        name text not null,
        persona jsonb not null,
        competences jsonb not null,
        model text not null,
        max_concurrent_tasks int not null check (max_concurrent_tasks >= 0),
        max_turn_steps int not null check (max_turn_steps >= 0),
        state text not null check (state in ('active', 'archived')),
        version bigint not null,
        owner_user_id text not null,
        create_time timestamptz not null,
        update_time timestamptz not null,
        primary key (tenant_id, id)""",
    "sessions": """
        tenant_id text not null,
        id text not null,
        agent_id text not null,
        owner_user_id text not null,
        title text not null,
        workspace_id text not null,
        delegation_id text not null,
        create_time timestamptz not null,
        last_message_time timestamptz,
        message_count bigint not null,
        primary key (tenant_id, id),
        foreign key (tenant_id, agent_id) references agent.agents (tenant_id, id)""",
    "turns": """
        tenant_id text not null,
        id text not null,
        session_id text not null,
        agent_id text not null,
        owner_user_id text not null,
        task_id text not null,
        state text not null
            check (state in ('queued', 'running', 'completed', 'failed', 'cancelled')),
        max_steps int not null,
        max_tool_calls int not null,
        result_schema jsonb,
        model_calls int not null,
        tool_calls int not null,
        input_tokens bigint not null,
        output_tokens bigint not null,
        text text not null,
        result jsonb,
        stop_reason text not null,
        error_reason text not null,
        error_message text not null,
        model text not null,
        background jsonb,
        trace text not null,
        create_time timestamptz not null,
        end_time timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, session_id) references agent.sessions (tenant_id, id),
        check ((end_time is null) = (state in ('queued', 'running')))""",
    "messages": """
        tenant_id text not null,
        id text not null,
        session_id text not null,
        turn_id text not null,
        step int not null check (step >= 0),
        sequence bigint not null check (sequence > 0),
        role text not null check (role in ('user', 'assistant', 'tool')),
        text text not null,
        tool_calls jsonb not null,
        tool_results jsonb not null,
        native jsonb,
        generation text not null,
        create_time timestamptz not null,
        primary key (tenant_id, id),
        foreign key (tenant_id, session_id) references agent.sessions (tenant_id, id),
        foreign key (tenant_id, turn_id) references agent.turns (tenant_id, id),
        unique (tenant_id, session_id, sequence),
        constraint messages_one_per_step unique (tenant_id, turn_id, step, role)""",
}
_INDEXES = (
    "create index on agent.sessions (tenant_id, owner_user_id, id)",
    "create index on agent.turns (tenant_id, session_id, id)",
    "create index on agent.turns (tenant_id, owner_user_id, id)",
    "create index on agent.turns (tenant_id, task_id, id) where task_id <> ''",
    # One live turn per session, whoever asks and however many at once.
    "create unique index turns_one_live on agent.turns (tenant_id, session_id) "
    "where state in ('queued', 'running')",
)


def upgrade() -> None:
    """Create everything."""
    mesh_tables(op, "agent")
    for table, columns in _TABLES.items():
        op.execute(f"create table agent.{table} ({columns})")
        tenant_table(op, table, schema="agent")
    for index in _INDEXES:
        op.execute(index)
