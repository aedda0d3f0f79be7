"""Roles, schemas, revisions: made again and again, by several at once, by a plain administrator."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gathering_mesh.migration import BootstrapError, SchemaMismatch, bootstrap, check, migrate
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.integration.mesh.conftest import database_settings
from tests.support.postgres import Databases, Server, TestDatabase

PACKAGE = "tests.support.probe_migrations"


def passwords(server: Server, service: str = "probe") -> dict[str, str]:
    return dict.fromkeys((service, f"{service}_sys", f"{service}_mig"), server.password)


@pytest.fixture
async def empty(databases: Databases) -> AsyncIterator[TestDatabase]:
    """The name of a database that does not exist yet."""
    made = TestDatabase(databases.server, f"test_empty_{secrets.token_hex(4)}")
    yield made
    await databases.drop(made)


async def test_bootstrap_makes_the_database_and_can_be_repeated(empty: TestDatabase) -> None:
    for _ in range(2):
        await bootstrap(empty.admin, "probe", passwords(empty.server))
        await migrate(empty.migrator("probe"), PACKAGE, "probe")
    async with Database.open(database_settings(empty), schema="probe") as db:
        await check(db, PACKAGE)


async def test_bootstraps_and_migrations_at_once_do_each_thing_once(empty: TestDatabase) -> None:
    other = TestDatabase(empty.server, f"{empty.name}_2")

    async def set_up(database: TestDatabase) -> None:
        await bootstrap(database.admin, "probe", passwords(empty.server))
        await migrate(database.migrator("probe"), PACKAGE, "probe")

    try:
        await asyncio.gather(*(set_up(database) for database in (empty, other) * 3))
        async with Database.open(database_settings(other), schema="probe") as db:
            await check(db, PACKAGE)
    finally:
        async with empty.server.admin() as admin:
            await admin.execute(f"drop database {other.name} with (force)")


async def test_administrator_need_not_be_a_superuser(empty: TestDatabase) -> None:
    server, role = empty.server, f"admin_{secrets.token_hex(4)}"
    service = f"svc_{secrets.token_hex(4)}"  # its roles must be this administrator's own
    async with server.admin() as admin:
        await admin.execute(f"create role {role} login createrole password '{server.password}'")
        await admin.execute(f"create database {empty.name} owner {role}")
    async with server.admin(empty.name) as admin:  # as a provider of databases does
        await admin.execute(f"create schema tools authorization {role}")
        await admin.execute("create extension vector schema tools")
    try:
        for _ in range(2):
            await bootstrap(server.dsn(role, empty.name), service, passwords(server, service))
        connection = await asyncpg.connect(empty.migrator(service))
        await connection.execute(f"create table {service}.t (v vector(3))")
        await connection.close()
    finally:
        async with server.admin() as admin:
            await admin.execute(f"drop database {empty.name} with (force)")
            for name in (*passwords(server, service), role):
                await admin.execute(f"drop role if exists {name}")


async def test_role_that_may_bypass_policies_is_refused(empty: TestDatabase) -> None:
    service = f"svc_{secrets.token_hex(4)}"
    async with empty.server.admin() as admin:
        await admin.execute(f"create role {service} bypassrls")
    try:
        with pytest.raises(BootstrapError, match="not bound"):
            await bootstrap(empty.admin, service, passwords(empty.server, service))
    finally:
        async with empty.server.admin() as admin:
            await admin.execute(f"drop role {service}")


@pytest.mark.parametrize("name", ["", "Probe", "a-b", 'a"; drop', "1a"])
async def test_strange_names_are_refused(name: str) -> None:
    with pytest.raises(BootstrapError):
        await bootstrap("postgresql://nowhere", name, {})


async def test_password_is_not_stored_readable(probe: TestDatabase) -> None:
    async with probe.server.admin() as admin:
        stored = await admin.fetchval("select rolpassword from pg_authid where rolname = 'probe'")
    assert stored.startswith("SCRAM-SHA-256$4096:")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(probe.app("probe").replace(probe.server.password, "wrong"))


async def test_service_refuses_a_revision_that_it_does_not_know(
    db: Database, probe: TestDatabase
) -> None:
    async with probe.server.admin(probe.name) as admin:
        await admin.execute("update probe.alembic_version set version_num = '0002'")
    with pytest.raises(SchemaMismatch, match="is at 0002, this code knows 0001"):
        await check(db, PACKAGE)


async def test_service_refuses_a_schema_that_was_never_migrated(empty: TestDatabase) -> None:
    await bootstrap(empty.admin, "probe", passwords(empty.server))
    async with Database.open(database_settings(empty), schema="probe") as db:
        with pytest.raises(SchemaMismatch, match="never migrated"):
            await check(db, PACKAGE)


async def test_service_refuses_to_serve_as_a_role_that_policies_do_not_bind(
    probe: TestDatabase,
) -> None:
    async with probe.server.admin(probe.name) as admin:
        await admin.execute(f"alter database {probe.name} set search_path = probe")
    settings = DatabaseSettings(probe.admin, probe.system("probe"))
    async with Database.open(settings, schema="probe") as db:
        with pytest.raises(SchemaMismatch, match="not bound"):
            await check(db, PACKAGE)


async def test_owner_sees_all_rows_in_a_backfill(db: Database, probe: TestDatabase) -> None:
    for tenant in ("ten_a", "ten_b"):
        async with db.transaction(tenant) as tx:
            await tx.run("insert into thing (tenant_id, id, name) values ($1, 'x', 'x')", tenant)
    owner = await asyncpg.connect(probe.migrator("probe"))
    try:
        assert await owner.execute("update probe.thing set n = 7") == "UPDATE 2"
    finally:
        await owner.close()


async def test_every_table_with_a_tenant_is_bound(probe: TestDatabase) -> None:
    async with probe.server.admin(probe.name) as admin:
        loose = await admin.fetch(
            """
            select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = 'probe'::regnamespace and c.relkind = 'r'
                and a.attname = 'tenant_id' and not (c.relrowsecurity and c.relforcerowsecurity)
            """
        )
    assert loose == []


async def test_role_of_one_service_cannot_read_another_schema(empty: TestDatabase) -> None:
    other = f"svc_{secrets.token_hex(4)}"
    for service in ("probe", other):
        await bootstrap(empty.admin, service, passwords(empty.server, service))
    await migrate(empty.migrator("probe"), PACKAGE, "probe")
    try:
        for role in (other, f"{other}_sys", f"{other}_mig"):
            connection = await asyncpg.connect(empty.server.dsn(role, empty.name))
            for statement in ("select * from probe.thing", "select * from probe.log"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
            await connection.close()
    finally:
        async with empty.server.admin() as admin:
            await admin.execute(f"drop database {empty.name} with (force)")
            for name in passwords(empty.server, other):
                await admin.execute(f"drop role {name}")
