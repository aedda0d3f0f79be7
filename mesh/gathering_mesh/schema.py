"""The mesh's own tables in a service's schema, and the tenant's fence around a service's tables.

Every table with a tenant has row-level security, FORCEd so that it binds the owner too. Three
policies at most: `tenant` lets `<svc>` see the tenant of its transaction; `owner` lets `<svc>_mig`
see all rows, or a migration's backfill would change none of them and say nothing; `system` lets
`<svc>_sys` see all rows of the mesh's tables that need it. Roles have only the rights named here.
"""

from __future__ import annotations

from typing import Protocol

_TENANT = "tenant_id = NULLIF(current_setting('app.tenant', true), '')"
ALL_RIGHTS = "select, insert, update, delete"


class Migration(Protocol):
    """What is needed of Alembic's `op`."""

    def execute(self, sqltext: str, /) -> None:
        """Run one statement."""


def tenant_table(op: Migration, table: str, *, schema: str, rights: str = ALL_RIGHTS) -> None:
    """Bind a table with a column `tenant_id` to the tenant of the transaction.

    Call it right after the table is created. Keys and references do not obey the policy: make them
    (tenant_id, id).
    """
    op.execute(f"alter table {schema}.{table} enable row level security")
    op.execute(f"alter table {schema}.{table} force row level security")
    _policy(op, f"{schema}.{table}", "tenant", to=schema, rows=_TENANT)
    _policy(op, f"{schema}.{table}", "owner", to=f"{schema}_mig", rows="true")
    op.execute(f"grant {rights} on {schema}.{table} to {schema}")


def mesh_tables(op: Migration, schema: str) -> None:
    """Create the mesh's tables, for the first migration of a service."""
    for statement in _TABLES:
        op.execute(statement.format(schema=schema))
    tenant_table(op, "aggregate", schema=schema, rights="select, insert, update")
    tenant_table(op, "outbox", schema=schema, rights="insert")
    tenant_table(op, "log", schema=schema, rights="select")
    for table in ("parked", "idempotency", "work"):
        tenant_table(op, table, schema=schema)
    for table, rights in _SYSTEM_RIGHTS.items():
        _policy(op, f"{schema}.{table}", "system", to=f"{schema}_sys", rows="true")
        op.execute(f"grant {rights} on {schema}.{table} to {schema}_sys")
    for grant in _GRANTS:
        op.execute(grant.format(schema=schema))


def _policy(op: Migration, table: str, name: str, *, to: str, rows: str) -> None:
    op.execute(f"create policy {name} on {table} to {to} using ({rows}) with check ({rows})")


# Of the idempotency keys the system role sees when they were made, to delete them, and no more.
_SYSTEM_RIGHTS = {
    "outbox": "select, delete",
    "log": "select, insert, delete",
    "parked": "select",
    "idempotency": "select (created_at), delete",
    "work": "select, update",
}
# These have no tenant.
_GRANTS = (
    "grant select, update on {schema}.log_head to {schema}_sys",
    "grant select, insert, update on {schema}.consumer to {schema}, {schema}_sys",
    "grant select, insert, update, delete on {schema}.replica to {schema}_sys",
    "grant usage on sequence {schema}.work_fence to {schema}_sys",
    "grant select on {schema}.alembic_version to {schema}, {schema}_sys",
)
_TABLES = (
    """
    create table {schema}.aggregate (
        tenant_id text not null,
        id text not null,
        version bigint not null,
        primary key (tenant_id, id))
    """,
    """
    create table {schema}.outbox (
        seq bigint generated always as identity primary key,
        tenant_id text not null,
        aggregate_id text not null,
        version bigint not null,
        event bytea not null,
        written_at timestamptz not null default clock_timestamp(),
        unique (tenant_id, aggregate_id, version))
    """,
    """
    create table {schema}.log (
        position bigint primary key,
        tenant_id text not null,
        aggregate_id text not null,
        version bigint not null,
        event bytea not null,
        written_at timestamptz not null,
        logged_at timestamptz not null default clock_timestamp(),
        unique (tenant_id, aggregate_id, version))
    """,
    """
    create table {schema}.log_head (
        one boolean primary key default true check (one),
        position bigint not null default 0,
        epoch text not null default replace(gen_random_uuid()::text, '-', ''),
        epoch_start bigint not null default 0)
    """,
    "insert into {schema}.log_head default values",
    """
    create table {schema}.consumer (
        name text not null,
        source text not null,
        epoch text not null,
        position bigint not null,
        gap_count bigint not null default 0,
        last_gap text not null default '',
        last_gap_at timestamptz,
        updated_at timestamptz not null default now(),
        primary key (name, source))
    """,
    """
    create table {schema}.parked (
        seq bigint generated always as identity primary key,
        tenant_id text not null,
        name text not null,
        source text not null,
        aggregate_id text not null,
        event bytea not null,
        error text not null,
        attempt int not null,
        parked_at timestamptz not null default now())
    """,
    "create index on {schema}.parked (name, source, tenant_id, aggregate_id, seq)",
    """
    create table {schema}.idempotency (
        tenant_id text not null,
        principal text not null,
        method text not null,
        request_id text not null,
        digest bytea not null,
        result text,
        created_at timestamptz not null default now(),
        primary key (tenant_id, principal, method, request_id))
    """,
    "create index on {schema}.idempotency (created_at)",
    """
    create table {schema}.work (
        tenant_id text not null,
        kind text not null,
        id text not null,
        due_at timestamptz not null,
        owner text,
        lease_until timestamptz,
        fence bigint not null default 0,
        attempt int not null default 0,
        again_at timestamptz,
        last_error text not null default '',
        primary key (tenant_id, kind, id),
        check ((owner is null) = (lease_until is null)))
    """,
    "create index on {schema}.work (kind, due_at)",
    "create index on {schema}.work (owner) where owner is not null",
    "create sequence {schema}.work_fence",
    """
    create table {schema}.replica (
        id text primary key,
        started_at timestamptz not null default now(),
        seen_at timestamptz not null)
    """,
)
