"""Lend a connection inside a transaction of a tenant: the one place that sets the tenant.

The transaction begins and ends in simple queries of ours, because those are most of what a short
one costs: the tenant is set in the round trip of the BEGIN, and nothing of it passes SQLAlchemy's
way to the driver. SQLAlchemy's statements still work inside: when its adapter comes to begin, it is
handed the transaction that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gathering_mesh.postgres_errors import DATABASE_ERRORS, connecting, translated
from gathering_mesh.sockets import notice_silence

# Said by each connection: what is set for a role, the role may change, for all later connections.
_PATH = "{schema}, extensions"
_CUT = (*DATABASE_ERRORS, OSError)
_BEGIN = "begin; select set_config('app.tenant', {tenant}, true)"
_LATER = ", set_config('synchronous_commit', 'off', true)"
_ROLLBACK_SECONDS = 2.0


class _Begun:
    """The transaction that is there, as SQLAlchemy's adapter wants to see it."""

    def __init__(self, connection: TenantConnection) -> None:
        self._connection = connection

    async def start(self) -> None:
        """Begin where SQLAlchemy asks its own first questions: there, no tenant's rows are seen."""
        if not self._connection.is_in_transaction():
            await self._connection.execute("begin")

    async def commit(self) -> None:
        """Commit."""
        await self._connection.commit()

    async def rollback(self) -> None:
        """Roll back what is not committed."""
        await self._connection.rollback()


class TenantConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg is untyped
    """A connection of the pool."""

    __slots__ = ("pooled",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        notice_silence(self._transport)
        self.pooled = False  # whether it has served before, and may have been cut since

    async def begin(self, tenant: str, durable: bool) -> None:
        """Begin a transaction of a tenant."""
        if self.is_in_transaction():
            raise RuntimeError("a transaction was left open on a connection of the pool")
        await self.execute(_BEGIN.format(tenant=_literal(tenant)) + ("" if durable else _LATER))
        self.pooled = True

    async def commit(self) -> None:
        """Commit."""
        if self.is_in_transaction():
            await self.execute("commit")

    async def rollback(self) -> None:
        """Roll back what is not committed."""
        if self.is_in_transaction():
            await self.execute("rollback")

    def transaction(self, **_: Any) -> _Begun:
        """Return what SQLAlchemy may call when it believes to begin."""
        return _Begun(self)


def engine_of(
    url: str, schema: str, *, size: int, wait: float, connect: float, statements: int
) -> AsyncEngine:
    """Return a pool of `size` connections; `wait` for one and `connect` are seconds."""
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=size,
        max_overflow=0,
        pool_timeout=wait,
        connect_args={
            "connection_class": TenantConnection,
            "timeout": connect,
            # While a standby takes over, the name may still lead to it, or to what was before.
            "target_session_attrs": "primary",
            "server_settings": {"search_path": _PATH.format(schema=schema)},
            "statement_cache_size": statements,
            "prepared_statement_cache_size": statements,
        },
    )


@asynccontextmanager
async def session(
    engine: AsyncEngine, tenant: str, *, durable: bool = True
) -> AsyncIterator[tuple[AsyncConnection, TenantConnection]]:
    """Lend a connection of a pool inside a transaction; it commits unless an exception ends it.

    Without `durable` the commit does not wait for the disk; see `Database.transaction`.
    """
    with connecting():
        connection, driver = await _begun(engine, tenant, durable)
    try:
        with translated():
            yield connection, driver
            await driver.commit()
    finally:
        await _give_back(connection, driver)


async def _begun(
    engine: AsyncEngine, tenant: str, durable: bool
) -> tuple[AsyncConnection, TenantConnection]:
    """Return a connection with a begun transaction; one that was cut in the pool is replaced."""
    while True:
        connection = await engine.connect()
        driver = driver_of(connection)
        pooled = driver.pooled
        try:
            await driver.begin(tenant, durable)
        except BaseException as error:
            await _discard(connection)  # cancelled in mid-way, nobody knows whether it began
            if not (pooled and isinstance(error, _CUT) and _is_lost(driver, error)):
                raise
        else:
            return connection, driver


def _is_lost(driver: TenantConnection, error: BaseException) -> bool:
    return bool(driver.is_closed()) or isinstance(error, asyncpg.InternalClientError)


async def _give_back(connection: AsyncConnection, driver: TenantConnection) -> None:
    """Roll back what is not committed; whether it was is decided already, so nothing is raised."""
    usable = False
    try:
        with suppress(*_CUT):
            async with asyncio.timeout(_ROLLBACK_SECONDS):
                await driver.rollback()
            usable = not (driver.is_closed() or driver.is_in_transaction())
    finally:
        if usable:
            with suppress(*_CUT):
                await connection.close()
        else:
            await _discard(connection)


async def _discard(connection: AsyncConnection) -> None:
    with suppress(*_CUT):
        await connection.invalidate()
    with suppress(*_CUT):
        await connection.close()


def driver_of(connection: AsyncConnection) -> TenantConnection:
    """Return asyncpg's connection below SQLAlchemy's."""
    if connection.sync_connection is None:
        raise RuntimeError("a connection that was not opened")
    driver = connection.sync_connection.connection.driver_connection
    if not isinstance(driver, TenantConnection):
        raise TypeError("a connection of another pool")
    return driver


def _literal(text: str) -> str:
    """Return a text as a literal of SQL, whatever `standard_conforming_strings` says."""
    if "\0" in text:
        raise ValueError("a tenant has no NUL characters")
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
