"""PostgreSQL crashes under transactions: callers hear that it is away, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from itertools import cycle
from pathlib import Path

import pytest
from sqlalchemy import text

from gathering_local.addresses import free_port
from gathering_local.postgres import SUPERUSER, EmbeddedPostgres
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.postgres_errors import DatabaseUnavailable

_CRASHES = 16
_CALLERS = 16
_BETWEEN = 0.5  # seconds of work before each crash


async def _work(db: Database, number: int, heard: Counter[str]) -> None:
    """Use the database, by SQLAlchemy and past it, until cancelled."""
    while True:
        try:
            async with db.transaction("ten_any") as tx:
                if number % 2:
                    await tx.execute(text("select pg_sleep(0.001)"))
                else:
                    await tx.run("select 1")
            heard["done"] += 1
        except DatabaseUnavailable:
            heard["unavailable"] += 1
            await asyncio.sleep(0.002)
        except Exception as error:
            heard[f"{type(error).__name__}: {error}"] += 1


@pytest.mark.timeout(300)
async def test_crashes_of_the_database_are_never_faults_of_ours(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", free_port())
    await server.start()
    dsn, heard = server.dsn(SUPERUSER, "postgres"), Counter[str]()
    async with Database.open(DatabaseSettings(dsn, dsn), schema="public") as db:
        callers = [asyncio.create_task(_work(db, n, heard)) for n in range(_CALLERS)]
        for _, how in zip(range(_CRASHES), cycle((signal.SIGQUIT, signal.SIGKILL))):
            await asyncio.sleep(_BETWEEN)
            assert server.pid is not None
            os.kill(server.pid, how)
            await server.wait()
            await server.start()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    await server.stop()
    assert set(heard) == {"done", "unavailable"}, heard
