"""A standby takes over: for a moment the database's name still leads to a server that is none."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gathering_local.addresses import free_port
from gathering_local.postgres import SUPERUSER, EmbeddedPostgres
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.postgres_errors import DatabaseUnavailable
from tests.support.proxy import running_proxy
from tests.support.waiting import eventually


@asynccontextmanager
async def standby_and_primary(
    folder: Path,
) -> AsyncIterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """Run two servers over copies of one cluster, of which the first takes no writes."""
    primary = EmbeddedPostgres(folder / "primary", free_port())
    await primary.start()
    await primary.stop()
    copy = [shutil.which("cp") or "cp", "-a", str(folder / "primary"), str(folder / "standby")]
    subprocess.run(copy, check=True)  # noqa: ASYNC221 (keeps the owners of the files)
    (folder / "standby" / "cluster" / "standby.signal").touch()
    standby = EmbeddedPostgres(folder / "standby", free_port())
    starting = asyncio.create_task(standby.start(60))  # which waits for more than a standby is
    await primary.start()
    try:

        async def answers() -> bool:
            try:
                connection = await asyncpg.connect(standby.dsn(SUPERUSER, "postgres"))
            except (OSError, asyncpg.PostgresError):
                return False
            await connection.close()
            return True

        await eventually(answers, "the standby answers")
        yield standby, primary
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        await standby.stop()
        await primary.stop()


async def test_standby_is_not_taken_for_the_database(tmp_path: Path) -> None:
    async with (
        standby_and_primary(tmp_path) as (standby, primary),
        running_proxy(standby.port) as proxy,
    ):
        dsn = primary.dsn(SUPERUSER, "postgres").replace(f":{primary.port}/", f":{proxy.port}/")
        async with Database.open(DatabaseSettings(dsn, dsn), schema="public") as db:
            with pytest.raises(DatabaseUnavailable):
                await _write(db)
            proxy.target = primary.port
            await _write(db)


async def _write(db: Database) -> None:
    async with db.transaction("ten_a") as tx:
        await tx.run("create table written ()")
