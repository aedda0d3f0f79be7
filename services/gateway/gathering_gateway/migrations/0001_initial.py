"""Tenants, users, logins, API keys, delegations; the look-up and the attempts over all tenants."""

from __future__ import annotations

from alembic import op

from gathering_mesh.migration import mesh_tables, tenant_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "gateway"

TABLES = {
    "tenant": """
        tenant_id text primary key,
        name text not null,
        created_at timestamptz not null default now()
    """,
    "member": """
        tenant_id text not null references gateway.tenant,
        id text not null,
        email text not null,
        display_name text not null,
        role text not null check (role in ('admin', 'member', 'viewer')),
        password_hash text not null,
        created_at timestamptz not null default now(),
        primary key (tenant_id, id),
        constraint member_email unique (tenant_id, email)
    """,
    # Which tenant a credential belongs to. The keys are hashes of e-mail addresses and of the
    # handles of API keys and refresh tokens; the system role reads this and nothing else of ours.
    "lookup": """
        tenant_id text not null,
        key bytea not null,
        id text not null,
        constraint lookup_key primary key (key)
    """,
    # A login and all tokens that come from it. `current_hash` is of the one unused refresh token.
    "login": """
        tenant_id text not null,
        id text not null,
        user_id text not null,
        lookup_key bytea not null,
        current_hash bytea not null,
        expires_at timestamptz not null,
        created_at timestamptz not null default now(),
        revoked_at timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, user_id) references gateway.member (tenant_id, id)
    """,
    "used_refresh_token": """
        tenant_id text not null,
        login_id text not null,
        hash bytea not null,
        expires_at timestamptz not null,
        primary key (tenant_id, login_id, hash),
        foreign key (tenant_id, login_id) references gateway.login (tenant_id, id)
            on delete cascade
    """,
    "api_key": """
        tenant_id text not null,
        id text not null,
        user_id text not null,
        display_name text not null,
        hash bytea not null,
        created_at timestamptz not null default now(),
        expires_at timestamptz,
        revoked_at timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, user_id) references gateway.member (tenant_id, id)
    """,
    # `parent_id`: the delegation whose token it was made with; what ends that, ends this.
    "delegation": """
        tenant_id text not null,
        id text not null,
        user_id text not null,
        actor text not null,
        purpose_id text not null,
        parent_id text,
        created_at timestamptz not null default now(),
        revoked_at timestamptz,
        primary key (tenant_id, id),
        foreign key (tenant_id, user_id) references gateway.member (tenant_id, id),
        foreign key (tenant_id, parent_id) references gateway.delegation (tenant_id, id)
    """,
}
INDEXES = (
    "index login_of_user on gateway.login (tenant_id, user_id, expires_at)",
    "index api_key_of_user on gateway.api_key (tenant_id, user_id, id)",
    "index attempt_by_time on gateway.login_attempt (since)",
)
SYSTEM = (
    # Attempts come before anybody is known, so they have no tenant; the keys are hashes.
    """
    create table gateway.login_attempt (
        key bytea primary key,
        count int not null,
        since timestamptz not null)
    """,
    "grant select, insert, update, delete on gateway.login_attempt to gateway_sys",
    "create policy system on gateway.lookup for select to gateway_sys using (true)",
    "grant select on gateway.lookup to gateway_sys",
)


def upgrade() -> None:
    """Make all of it."""
    mesh_tables(op, SCHEMA)
    for table, columns in TABLES.items():
        op.execute(f"create table {SCHEMA}.{table} ({columns})")
        tenant_table(op, table, schema=SCHEMA)
    for statement in SYSTEM:
        op.execute(statement)
    for index in INDEXES:
        op.execute(f"create {index}")
