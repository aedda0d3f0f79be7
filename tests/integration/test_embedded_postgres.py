"""The embedded server, as local mode runs it."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from gathering_local.postgres import EmbeddedPostgres, PostgresError


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "data")
    await server.start()
    yield server
    await server.stop()


async def value(server: EmbeddedPostgres, query: str) -> object:
    connection = await asyncpg.connect(server.dsn("postgres", "postgres"))
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_wrong_password_is_refused_on_tcp_and_on_the_socket(
    postgres: EmbeddedPostgres,
) -> None:
    for host in ("127.0.0.1", str(postgres.socket_folder)):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(
                host=host, port=postgres.port, user="postgres", password="no", database="postgres"
            )


async def test_settings_are_those_of_the_mesh(postgres: EmbeddedPostgres) -> None:
    assert await value(postgres, "SHOW max_connections") == "300"
    assert await value(postgres, "SHOW server_encoding") == "UTF8"
    assert await value(postgres, "SELECT 'é' ~ '^[[:alpha:]]$' AND lower('É') = 'é'")
    assert await value(postgres, "SELECT count(*) FROM pg_available_extensions WHERE name='vector'")


async def test_nobody_else_may_open_socket_cluster_or_password(postgres: EmbeddedPostgres) -> None:
    assert postgres.socket_folder is not None
    data = postgres.socket_folder.parent
    for path, mode in (("socket", 0o700), ("cluster", 0o700), ("superuser.password", 0o600)):
        if (data / path).exists():
            assert (data / path).stat().st_mode & 0o777 == mode


async def test_server_never_runs_as_root(postgres: EmbeddedPostgres) -> None:
    status = Path("/proc", str(postgres.pid), "status").read_text()  # noqa: ASYNC240 - no disk
    uids = next(line for line in status.splitlines() if line.startswith("Uid")).split()[1:]
    assert "0" not in uids


async def test_killed_server_starts_again_with_its_data(postgres: EmbeddedPostgres) -> None:
    await value(postgres, "CREATE TABLE kept AS SELECT 1 AS one")
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    assert await postgres.wait() == -signal.SIGKILL

    await postgres.start()

    assert await value(postgres, "SELECT one FROM kept") == 1


async def test_second_supervisor_ends_the_server_that_was_left(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await value(postgres, "CREATE TABLE kept AS SELECT 1 AS one")
    successor = EmbeddedPostgres(tmp_path / "data")

    await successor.start()

    try:
        assert await postgres.wait() == 0
        assert await value(successor, "SELECT one FROM kept") == 1
    finally:
        await successor.stop()


async def test_start_waits_for_a_dead_server_that_nobody_has_waited_for_yet(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    await postgres.stop()
    dead = await asyncio.to_thread(subprocess.Popen, ["true"])
    ends = os.WEXITED | os.WNOWAIT  # it stays as it is then
    await asyncio.to_thread(os.waitid, os.P_PID, dead.pid, ends)
    pid_file = tmp_path / "data" / "cluster" / "postmaster.pid"
    await asyncio.to_thread(pid_file.write_text, f"{dead.pid}\n")
    starting = asyncio.create_task(postgres.start())
    await asyncio.wait({starting}, timeout=0.5)
    waits = not starting.done()
    await asyncio.to_thread(dead.wait)
    await starting
    assert waits


async def test_unusable_setting_is_named_in_the_error(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", settings={"max_connections": "many"})
    with pytest.raises(PostgresError, match="max_connections"):
        await server.start()
    await server.stop()


async def test_start_after_an_interrupted_making_of_the_cluster_makes_it_whole(
    tmp_path: Path,
) -> None:
    unfinished = tmp_path / "data" / "cluster.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(tmp_path / "data")
    await server.start()
    assert await value(server, "SELECT 1") == 1
    await server.stop()
