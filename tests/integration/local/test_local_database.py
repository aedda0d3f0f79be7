"""The database of a local mesh: prepared once, kept by the supervisor, closed between services."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import asyncpg
import pytest

from gathering_local import databases
from gathering_local.addresses import free_port
from gathering_local.home import Home
from gathering_local.layout import SERVICES
from gathering_local.parts import PostgresPart
from gathering_local.postgres import SUPERUSER, EmbeddedPostgres
from gathering_local.supervisor import PartStatus, Stage, Supervisor, read_status


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return an empty home that PostgreSQL's user may enter."""
    return Home(tmp_path / "home")


@pytest.fixture
async def server(home: Home) -> AsyncIterator[EmbeddedPostgres]:
    """Return a running server of its own: roles are those of a whole server."""
    running = EmbeddedPostgres(home.postgres)
    await running.start()
    yield running
    await running.stop()


async def prepared(home: Home, server: EmbeddedPostgres) -> bool:
    """Prepare the database as `gathering up` does."""
    admin = server.dsn(SUPERUSER, databases.DATABASE)
    address = f"127.0.0.1:{server.port}"
    return await databases.prepare(home, admin, address, home.postgres / "prepared")


async def rows(dsn: str, query: str) -> list[asyncpg.Record]:
    """Return the rows of a query."""
    connection = await asyncpg.connect(dsn)
    try:
        found: list[asyncpg.Record] = await connection.fetch(query)
    finally:
        await connection.close()
    return found


async def test_database_is_prepared_once_and_again_after_new_migrations(
    home: Home, server: EmbeddedPostgres
) -> None:
    mark = home.postgres / "prepared"
    assert await prepared(home, server)
    assert await prepared(home, server), "without the mark it is looked at again, and all is there"
    databases.write_mark(mark)
    assert not await prepared(home, server)
    mark.write_text("of other migrations")
    assert await prepared(home, server)


async def test_roles_of_a_service_see_its_own_schema_and_no_other(
    home: Home, server: EmbeddedPostgres
) -> None:
    await prepared(home, server)
    addresses = databases.role_addresses(home, f"127.0.0.1:{server.port}")
    tables = await rows(
        server.dsn(SUPERUSER, databases.DATABASE),
        "SELECT schemaname, tablename FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    assert {table["schemaname"] for table in tables} == set(SERVICES)
    for service in SERVICES:
        foreign = [
            f'"{table["schemaname"]}"."{table["tablename"]}"'
            for table in tables
            if table["schemaname"] != service
        ]
        for dsn in addresses[service]:
            await sees_none(dsn, foreign)


async def sees_none(dsn: str, tables: Sequence[str]) -> None:
    """Check that a role may read none of these tables."""
    connection = await asyncpg.connect(dsn)
    try:
        for name in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM {name}")  # noqa: S608 - names of the catalogue
    finally:
        await connection.close()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for what another process brings about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come about"
        await asyncio.sleep(0.01)


async def test_server_that_is_killed_comes_back_with_its_data(home: Home) -> None:
    server = EmbeddedPostgres(home.postgres, free_port())
    stop = asyncio.Event()
    stages = [Stage([PostgresPart(server)])]
    running = asyncio.create_task(Supervisor(home, "http://127.0.0.1:1", stages).run(stop))

    def part() -> PartStatus:
        status = read_status(home)
        return status.parts[0] if status else PartStatus("none")

    await until(lambda: part().state == "ready")
    before, port = part().pid, server.port
    dsn = server.dsn(SUPERUSER, "postgres")
    await rows(dsn, "CREATE TABLE kept AS SELECT 42 AS value")
    os.kill(before, 9)
    await until(lambda: part().state == "ready" and part().pid != before)
    assert server.port == port
    assert [row["value"] for row in await rows(dsn, "SELECT value FROM kept")] == [42]
    stop.set()
    await running
    assert part().state == "stopped"
    with pytest.raises(OSError, match=r"refused|failed"):
        await rows(dsn, "SELECT 1")
