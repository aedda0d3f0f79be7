"""Transactions: bound to their tenant; what the database refuses, as errors of ours."""

import asyncio
from contextlib import AsyncExitStack, suppress

import asyncpg
import pytest
import sqlalchemy as sa

from gathering_mesh.call import Call, Principal
from gathering_mesh.errors import Aborted, AlreadyExists, DeadlineExceeded
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.postgres_errors import (
    DatabaseBusy,
    DatabaseUnavailable,
    unique,
    violated_constraint,
)
from gathering_mesh.session import driver_of
from tests.support.happenings import MemoryForgotten
from tests.support.postgres import TestDatabase

THING = sa.Table(
    "thing",
    sa.MetaData(schema="probe"),
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("n", sa.BigInteger),
)


async def add(db: Database, tenant: str, thing: str, name: str | None = None) -> None:
    async with db.transaction(tenant) as tx:
        row = {"tenant_id": tenant, "id": thing, "name": name or thing, "n": 0}
        await tx.execute(THING.insert().values(row))


async def test_query_without_a_filter_sees_its_own_tenant_alone(db: Database) -> None:
    await add(db, "ten_a", "x")
    await add(db, "ten_b", "y")
    async with db.transaction("ten_a") as tx:
        found = await tx.execute(sa.select(THING.c.id))
        assert found.scalars().all() == ["x"]
        assert await tx.fetch_value("select string_agg(id, ',') from thing") == "x"


async def test_other_tenants_rows_cannot_be_changed_deleted_or_made(db: Database) -> None:
    await add(db, "ten_a", "x")
    async with db.transaction("ten_b") as tx:
        assert await tx.run("update thing set n = 1") == 0
        assert await tx.run("delete from thing") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with db.transaction("ten_b") as tx:
            await tx.run("insert into thing (tenant_id, id, name) values ('ten_a', 'z', 'z')")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with db.transaction("ten_a") as tx:
            await tx.run("update thing set tenant_id = 'ten_b'")


async def test_tenant_does_not_stay_on_a_pooled_connection(probe: TestDatabase) -> None:
    settings = DatabaseSettings(probe.app("probe"), probe.system("probe"), pool_size=1)
    async with Database.open(settings, schema="probe") as db:
        await add(db, "ten_a", "x")
        async with db.transaction("ten_a") as tx:
            lent = driver_of(tx.connection)
            assert await lent.fetch("select id from thing")
        assert await lent.fetch("select id from thing") == []
        assert await lent.fetchval("select current_setting('app.tenant')") == ""


async def test_connection_is_lent_again_also_after_statements_of_sqlalchemy(
    probe: TestDatabase,
) -> None:
    settings = DatabaseSettings(probe.app("probe"), probe.system("probe"), pool_size=1)
    async with Database.open(settings, schema="probe") as db:
        lent = []
        for n in range(3):
            with suppress(KeyError):
                async with db.transaction(f"ten_{n}") as tx:
                    lent.append(driver_of(tx.connection))
                    new = sa.insert(THING).values(tenant_id=tx.tenant, id="x", name="x")
                    await tx.execute(new)
                    if n == 1:
                        raise KeyError
        for n, kept in enumerate([["x"], [], ["x"]]):
            async with db.transaction(f"ten_{n}") as tx:
                assert (await tx.execute(sa.select(THING.c.id))).scalars().all() == kept
        assert len(set(lent)) == 1
    assert lent[0].is_closed()


async def test_connection_that_is_lent_while_the_database_closes_is_closed_afterwards(
    probe: TestDatabase,
) -> None:
    settings = DatabaseSettings(probe.app("probe"), probe.system("probe"))
    async with AsyncExitStack() as stack:
        async with Database.open(settings, schema="probe") as db:
            tx = await stack.enter_async_context(db.transaction("ten_a"))
        lent = driver_of(tx.connection)
        assert await lent.fetchval("select 1") == 1
    assert lent.is_closed()


async def test_transaction_without_a_tenant_is_refused(db: Database) -> None:
    anonymous = Call(Principal.anonymous(), "m")
    for nobody in ("", anonymous):
        with pytest.raises(ValueError, match="tenant"):
            async with db.transaction(nobody):
                pytest.fail("a transaction was opened")


async def test_exception_rolls_back_state_events_and_work(db: Database) -> None:
    with pytest.raises(KeyError):
        async with db.transaction("ten_a") as tx:
            await tx.run("insert into thing (tenant_id, id, name) values ('ten_a', 'x', 'x')")
            tx.emit("x", MemoryForgotten("x"))
            await tx.schedule("kind", "x")
            raise KeyError
    async with db.transaction("ten_a") as tx:
        assert await tx.fetch("select from thing") == []
        assert await tx.fetch("select from work") == []
    async with db.system() as system:
        assert await system.fetch("select from outbox") == []


async def test_events_of_one_aggregate_have_versions_without_gaps(db: Database) -> None:
    for _ in range(2):
        async with db.transaction("ten_a") as tx:
            for aggregate in ("b", "a", "b"):
                tx.emit(aggregate, MemoryForgotten("x"))
    async with db.system() as system:
        rows = await system.fetch("select aggregate_id, version from outbox order by seq")
    expected = [("b", 1), ("a", 1), ("b", 2), ("b", 3), ("a", 2), ("b", 4)]
    assert [tuple(row.values()) for row in rows] == expected


async def test_writers_of_the_same_aggregates_do_not_deadlock(db: Database) -> None:
    async def write(aggregates: list[str]) -> None:
        for _ in range(25):
            async with db.transaction("ten_a") as tx:
                for aggregate in aggregates:
                    tx.emit(aggregate, MemoryForgotten("x"))

    names = [f"a{n}" for n in range(6)]
    await asyncio.gather(*(write(order) for order in (names, names[::-1], names[3:] + names[:3])))
    async with db.transaction("ten_a") as tx:
        versions = await tx.fetch("select distinct version from aggregate")
    assert [row["version"] for row in versions] == [75]


async def test_system_role_sees_the_meshs_own_tables_and_no_others(db: Database) -> None:
    for table in ("thing", "aggregate"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.system() as tx:
                await tx.fetch(f"select * from {table}")  # noqa: S608 - a name of this list
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with db.system() as tx:
            await tx.fetch("select request_id from idempotency")
    async with db.system() as tx:
        for table in ("outbox", "log", "log_head", "work", "replica", "consumer", "parked"):
            await tx.fetch(f"select * from {table}")  # noqa: S608 - a name of this list


async def test_service_role_cannot_read_the_outbox_or_create_tables(db: Database) -> None:
    for statement in (
        "select * from outbox",
        "select * from log_head",
        "create table probe.mine (id int)",
        "create table public.mine (id int)",
        "alter table thing disable row level security",
        "set role probe_mig",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.transaction("ten_a") as tx:
                await tx.run(statement)


async def test_path_that_a_role_gives_itself_does_not_count(probe: TestDatabase) -> None:
    settings = DatabaseSettings(probe.app("probe"), probe.system("probe"), pool_size=1)
    set_path = f"alter role current_user in database {probe.name} set search_path = nowhere"
    async with Database.open(settings, schema="probe") as db:
        async with db.transaction("ten_a") as tx:
            await tx.run(set_path)
        async with db.system() as system:
            await system.run(set_path)
    async with Database.open(settings, schema="probe") as db:
        async with db.transaction("ten_a") as tx:
            await tx.fetch("select from thing")
            path = await tx.fetch_value("select current_schemas(false)")
        async with db.system() as system:
            await system.fetch("select from log")
    assert path == ["probe", "extensions"]


async def test_broken_constraint_is_told_by_its_name(db: Database) -> None:
    await add(db, "ten_a", "x", "taken")
    with pytest.raises(AlreadyExists, match="name"):
        async with db.transaction("ten_a") as tx:
            with unique("thing_name", lambda: AlreadyExists("a thing has this name")):
                await tx.execute(
                    THING.insert().values(tenant_id="ten_a", id="y", name="taken", n=0)
                )
    with (
        pytest.raises(sa.exc.IntegrityError) as other,
        unique("thing_name", lambda: AlreadyExists("a thing has this name")),
    ):
        await add(db, "ten_a", "x", "free")
    assert violated_constraint(other.value) == "thing_pkey"


async def test_lock_that_is_not_given_is_aborted(db: Database) -> None:
    await add(db, "ten_a", "x")
    async with db.transaction("ten_a") as holder:
        await holder.run("update thing set n = 1")
        with pytest.raises(Aborted):
            async with db.transaction("ten_a") as tx:
                await tx.run("set local lock_timeout = '50ms'")
                await tx.run("update thing set n = 2")


async def test_deadlock_is_aborted(db: Database) -> None:
    await add(db, "ten_a", "x")
    await add(db, "ten_a", "y")
    met = asyncio.Barrier(2)

    async def change(first: str, second: str) -> None:
        async with db.transaction("ten_a") as tx:
            await tx.run("update thing set n = n + 1 where id = $1", first)
            await met.wait()
            await tx.run("update thing set n = n + 1 where id = $1", second)

    ends = await asyncio.gather(change("x", "y"), change("y", "x"), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [Aborted]


async def test_statement_that_takes_too_long_is_a_deadline(db: Database) -> None:
    with pytest.raises(DeadlineExceeded):
        async with db.transaction("ten_a") as tx:
            await tx.run("set local statement_timeout = '20ms'")
            await tx.run("select pg_sleep(5)")


async def test_connection_cut_inside_a_transaction_is_unavailable(
    db: Database, probe: TestDatabase
) -> None:
    for through_sqlalchemy in (True, False):
        with pytest.raises(DatabaseUnavailable):
            async with db.transaction("ten_a") as tx:
                pid = await tx.fetch_value("select pg_backend_pid()")
                await cut(probe, pid)
                if through_sqlalchemy:
                    await tx.execute(sa.select(THING.c.id))
                else:
                    await tx.fetch("select from thing")


async def test_pool_of_cut_connections_recovers_without_an_error(
    db: Database, probe: TestDatabase
) -> None:
    async def hold(met: asyncio.Barrier) -> int:
        async with db.transaction("ten_a") as tx:
            await met.wait()
            return int(await tx.fetch_value("select pg_backend_pid()"))

    met = asyncio.Barrier(4)
    for pid in await asyncio.gather(*(hold(met) for _ in range(4))):
        await cut(probe, pid)
    await asyncio.gather(*(add(db, "ten_a", f"x{n}") for n in range(8)))


async def test_busy_pool_is_overloaded_and_absent_server_unavailable(probe: TestDatabase) -> None:
    settings = DatabaseSettings(
        probe.app("probe"), probe.system("probe"), pool_size=1, pool_timeout=0.05
    )
    async with Database.open(settings, schema="probe") as db, db.transaction("ten_a"):
        with pytest.raises(DatabaseBusy) as caught:
            async with db.transaction("ten_a"):
                pytest.fail("the pool gave what it has not")
        assert (caught.value.status, caught.value.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert caught.value.retry_after
    nowhere = DatabaseSettings("postgresql://u:p@127.0.0.1:1/d", "postgresql://u:p@127.0.0.1:1/d")
    async with Database.open(nowhere, schema="probe") as db:
        with pytest.raises(DatabaseUnavailable):
            async with db.transaction("ten_a"):
                pytest.fail("there is no server")


async def test_cancelled_transaction_gives_its_connection_back(db: Database) -> None:
    async def wait_long() -> None:
        async with db.transaction("ten_a") as tx:
            await tx.run("select pg_sleep(30)")

    for _ in range(8):  # more often than the pool has connections
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await wait_long()
    await add(db, "ten_a", "x")


async def cut(probe: TestDatabase, pid: int) -> None:
    """End a connection as an operator, or a server's restart, does."""
    async with probe.server.admin(probe.name) as admin:
        assert await admin.fetchval("select pg_terminate_backend($1, 5000)", pid)
