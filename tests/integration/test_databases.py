"""The databases that tests get: cloned, apart from each other, with every role's rights."""

import asyncio
import sys
import uuid
from pathlib import Path

import asyncpg
import pytest

from tests.support.fixtures import NewDatabase
from tests.support.postgres import Databases, shared_server

MIGRATED = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'probe'"


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_clones_are_migrated_and_apart(new_database: NewDatabase) -> None:
    one, other = await new_database("probe"), await new_database("probe")
    await value(one.admin, "CREATE TABLE public.only_here ()")
    assert await value(one.admin, MIGRATED) == await value(other.admin, MIGRATED) != 0
    assert await value(other.admin, "SELECT to_regclass('public.only_here')") is None


async def test_clone_lets_its_roles_in_and_nobody_else(new_database: NewDatabase) -> None:
    database = await new_database("probe")
    await value(database.admin, "DROP ROLE IF EXISTS stranger")
    await value(database.admin, f"CREATE ROLE stranger LOGIN PASSWORD '{database.server.password}'")
    for dsn in (database.app("probe"), database.system("probe"), database.migrator("probe")):
        assert await value(dsn, "SELECT 1") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await value(database.app("stranger"), "SELECT 1")


async def test_processes_that_start_together_make_one_template(databases: Databases) -> None:
    workers = [Databases(databases.server) for _ in range(4)]
    made = await asyncio.gather(*(worker.create("probe") for worker in workers))
    count = "SELECT count(*) FROM pg_database WHERE datname LIKE 'template_probe%'"
    assert await value(made[0].admin, count) == 1
    for database in made:
        await databases.drop(database)


async def test_killed_test_process_leaves_no_server() -> None:
    run = uuid.uuid4().hex
    program = (
        "import sys\n"
        "from tests.support.postgres import shared_server\n"
        f"with shared_server('{run}') as server:\n"
        "    print(server.port, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    port = int(await process.stdout.readline())
    with shared_server(run) as server:
        assert server.port == port
        process.kill()
        await process.communicate()
        assert await value(server.dsn("postgres", "postgres"), "SELECT 1") == 1
    async with asyncio.timeout(10):
        while await listens(port):  # noqa: ASYNC110 - nothing tells of another process's end
            await asyncio.sleep(0.02)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
