"""Disabled users, invitations, keys with scopes, delegations that end unused, audit."""

from __future__ import annotations

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "gateway"

COLUMNS = (
    "gateway.member add column disabled_at timestamptz",
    "gateway.api_key add column scopes text[] not null default '{}'",
    "gateway.api_key add column last_used_at timestamptz",
    "gateway.delegation add column scopes text[] not null default '{}'",
    "gateway.delegation add column last_used_at timestamptz not null default now()",
)
TABLES = {
    # `user_id`: whose password is set anew, or who came of the invitation.
    "invitation": """
        tenant_id text not null references gateway.tenant,
        id text not null,
        email text not null,
        display_name text not null,
        role text not null check (role in ('admin', 'member', 'viewer')),
        user_id text,
        inviter_id text not null,
        lookup_key bytea not null,
        hash bytea not null,
        created_at timestamptz not null default now(),
        expires_at timestamptz not null,
        accepted_at timestamptz,
        revoked_at timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, user_id) references gateway.member (tenant_id, id),
        foreign key (tenant_id, inviter_id) references gateway.member (tenant_id, id)
    """,
    # A projection of all services' events: what is here can be made again from their logs.
    "audit_entry": """
        tenant_id text not null,
        event_id text not null,
        at timestamptz not null,
        source text not null,
        action text not null,
        resource_id text not null,
        user_id text not null,
        actor text not null,
        delegation_id text not null,
        api_key_id text not null,
        request_id text not null,
        trace_id text not null,
        address text not null,
        reason text not null,
        primary key (tenant_id, event_id)
    """,
}
INDEXES = (
    "unique index invitation_open on gateway.invitation (tenant_id, email)"
    " where accepted_at is null and revoked_at is null",
    "index audit_by_time on gateway.audit_entry (tenant_id, at, event_id)",
    "index audit_by_user on gateway.audit_entry (tenant_id, user_id, at, event_id)",
    "index audit_by_resource on gateway.audit_entry (tenant_id, resource_id, at, event_id)",
)


def upgrade() -> None:
    """Make all of it."""
    for change in COLUMNS:
        op.execute(f"alter table {change}")
    for table, columns in TABLES.items():
        op.execute(f"create table {SCHEMA}.{table} ({columns})")
        tenant_table(op, table, schema=SCHEMA)
    for index in INDEXES:
        op.execute(f"create {index}")
