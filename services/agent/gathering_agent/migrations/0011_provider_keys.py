"""Tenants' own keys of providers, encrypted."""

from alembic import op

from gathering_mesh.migration import tenant_table

revision = "0011"
down_revision = "0010"

_KEYS = """
create table agent.provider_keys (
    tenant_id text not null,
    id text not null,
    provider text not null,
    last text not null,
    user_id text not null,
    set_time timestamptz not null,
    master text not null,
    wrapped bytea not null,
    content bytea not null,
    delete_time timestamptz,
    primary key (tenant_id, id),
    check ((delete_time is null) = (wrapped <> '' and content <> '')))
"""
_ONE = """
create unique index provider_keys_one on agent.provider_keys (tenant_id, provider)
where delete_time is null
"""


def upgrade() -> None:
    """Add what is new."""
    op.execute(_KEYS)
    tenant_table(op, "provider_keys", schema="agent", rights="select, insert, update")
    op.execute(_ONE)
