"""Workspaces, grants, executions."""

from __future__ import annotations

from alembic import op

from gathering_mesh.migration import mesh_tables, tenant_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "skills"

TABLES = {
    "workspaces": """
        tenant_id text not null,
        id text not null,
        display_name text not null,
        path text not null check (path like '/%'),
        create_time timestamptz not null default now(),
        primary key (tenant_id, id),
        constraint workspace_directory unique (tenant_id, path)
    """,
    "grants": """
        tenant_id text not null,
        id text not null,
        agent_id text not null,
        skill text not null,
        permissions text[] not null check (cardinality(permissions) > 0),
        write_paths text[] not null,
        create_time timestamptz not null default now(),
        revoke_time timestamptz,
        primary key (tenant_id, id)
    """,
    # `principal` names the user and the service that acted for them. Arguments and output are JSON
    # as text: JSONB refuses the NUL character, which files may hold.
    "executions": """
        tenant_id text not null,
        id text not null,
        principal text not null,
        request_id text not null,
        digest bytea not null,
        owner_user_id text not null,
        tool text not null,
        arguments text not null,
        agent_id text not null,
        workspace_id text,
        turn_id text not null,
        task_id text not null,
        trace text not null,
        state text not null default 'requested' check (state in
            ('requested', 'running', 'done', 'failed', 'cancelled', 'unknown_outcome')),
        output text,
        error_reason text not null default '',
        error_message text not null default '',
        artifacts jsonb not null default '[]',
        attempt_count int not null default 0,
        cancel_requested boolean not null default false,
        create_time timestamptz not null default now(),
        start_time timestamptz,
        end_time timestamptz,
        primary key (tenant_id, id),
        constraint execution_request unique (tenant_id, principal, request_id),
        foreign key (tenant_id, workspace_id) references skills.workspaces (tenant_id, id),
        check ((end_time is null) = (state in ('requested', 'running'))),
        check (state <> 'running' or (start_time is not null and attempt_count > 0)),
        check ((state = 'done') = (output is not null)),
        check ((error_reason <> '') = (state in ('failed', 'cancelled', 'unknown_outcome')))
    """,
}

INDEXES = (
    # A grant is replaced, never doubled.
    "unique index grant_in_force on skills.grants (tenant_id, agent_id, skill)"
    " where revoke_time is null",
    "index execution_live on skills.executions (tenant_id) where state in ('requested', 'running')",
    "index execution_of_owner on skills.executions (tenant_id, owner_user_id, id)",
    "index execution_of_turn on skills.executions (tenant_id, turn_id, id) where turn_id <> ''",
    "index execution_of_task on skills.executions (tenant_id, task_id, id) where task_id <> ''",
    "index execution_of_agent on skills.executions (tenant_id, agent_id, id) where agent_id <> ''",
    "index execution_of_workspace on skills.executions (tenant_id, workspace_id, id)",
    "index execution_ended on skills.executions (tenant_id, end_time) where end_time is not null",
)

# Whether another tenant works in a directory, within it or around it. It runs as the owner of the
# schema, who sees all tenants, and tells nothing but yes or no.
TAKEN = """
    create function skills.directory_is_taken(tenant text, directory text) returns boolean
    language sql stable security definer set search_path = ''
    as $$
        select exists (
            select from skills.workspaces w
            where w.tenant_id <> tenant
                and (pg_catalog.starts_with(pg_catalog.rtrim(w.path, '/') || '/',
                        pg_catalog.rtrim(directory, '/') || '/')
                    or pg_catalog.starts_with(pg_catalog.rtrim(directory, '/') || '/',
                        pg_catalog.rtrim(w.path, '/') || '/')))
    $$
"""


def upgrade() -> None:
    """Create the schema's tables."""
    mesh_tables(op, SCHEMA)
    for table, columns in TABLES.items():
        op.execute(f"create table {SCHEMA}.{table} ({columns})")
        tenant_table(op, table, schema=SCHEMA)
    for index in INDEXES:
        op.execute(f"create {index}")
    op.execute(TAKEN)
    op.execute("revoke all on function skills.directory_is_taken(text, text) from public")
    op.execute("grant execute on function skills.directory_is_taken(text, text) to skills")
