"""The database's machine vanishes: its connections say nothing any more, not even that they end."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from gathering_mesh.postgres import Database
from gathering_mesh.session import driver_of
from tests.integration.mesh.conftest import database_settings
from tests.support.postgres import TestDatabase
from tests.support.proxy import running_proxy


async def test_silent_connection_is_ended_by_the_kernel(db: Database) -> None:
    async with db.system() as tx:
        found: socket.socket = driver_of(tx.connection)._transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15_000
        assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


async def test_caller_whose_time_is_over_is_free_although_the_database_is_silent(
    probe: TestDatabase,
) -> None:
    async with running_proxy(probe.server.port) as proxy:
        straight = database_settings(probe)
        port = f":{probe.server.port}/"
        url = straight.url.replace(port, f":{proxy.port}/")
        settings = replace(straight, url=url, pool_size=2)
        async with Database.open(settings, schema="probe") as db:
            met = asyncio.Barrier(3)
            callers = [asyncio.create_task(_wait_in_vain(db, met)) for _ in range(2)]
            await met.wait()
            proxy.silence()
            async with asyncio.timeout(30):
                await asyncio.gather(*callers)
                async with db.transaction("ten_a") as tx:
                    assert await tx.fetch_value("select 1") == 1


async def _wait_in_vain(db: Database, met: asyncio.Barrier) -> None:
    """Ask something that is not answered, for a second at most."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit, db.transaction("ten_a") as tx:
            await met.wait()
            limit.reschedule(asyncio.get_running_loop().time() + 1)
            await tx.fetch_value("select pg_sleep(0.1)")
