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
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy import NullPool, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gathering_mesh.postgres_errors import DATABASE_ERRORS, busy, connecting, translated
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

    __slots__ = ("used",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        notice_silence(self._transport)
        self.used = False  # whether it has served before, and may have been cut since

    async def begin(self, tenant: str, durable: bool) -> None:
        """Begin a transaction of a tenant."""
        if self.is_in_transaction():
            raise RuntimeError("a transaction was left open on a connection of the pool")
        await self.execute(_BEGIN.format(tenant=_literal(tenant)) + ("" if durable else _LATER))
        self.used = True

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


_Pair: TypeAlias = tuple[AsyncConnection, TenantConnection]


class Pool:
    """Connections that stay open, made when they are needed and lent inside transactions.

    It takes the place of SQLAlchemy's, whose own work each time that it lends one costs as much as
    a short query does.
    """

    def __init__(  # noqa: PLR0917 - of a database
        self, url: str, schema: str, size: int, wait: float, connect: float, statements: int
    ) -> None:
        """Describe `size` connections; `wait` for one and `connect` are seconds."""
        self._engine = _engine(url, schema, connect, statements)
        self._room = asyncio.Semaphore(size)
        self._wait = wait
        self._idle: list[_Pair] = []
        self._closed = False

    async def close(self) -> None:
        """Close what is idle, and what is lent when it comes back."""
        self._closed = True
        while self._idle:
            connection, _ = self._idle.pop()
            await _discard(connection)
        await self._engine.dispose()

    @asynccontextmanager
    async def session(self, tenant: str, *, durable: bool = True) -> AsyncIterator[_Pair]:
        """Lend a connection inside a transaction; it commits unless an exception ends it.

        Without `durable` the commit does not wait for the disk; see `Database.transaction`.
        Raises DatabaseBusy, DatabaseUnavailable.
        """
        await self._enter()
        try:
            with connecting():
                lent = await self._begun(tenant, durable)
            try:
                with translated():
                    yield lent
                    await lent[1].commit()
            finally:
                await self._take_back(lent)
        finally:
            self._room.release()

    async def _enter(self) -> None:
        """Wait for a place, as long as one may."""
        if not self._room.locked():
            await self._room.acquire()  # at once
            return
        try:
            async with asyncio.timeout(self._wait):
                await self._room.acquire()
        except TimeoutError as error:
            raise busy() from error

    async def _begun(self, tenant: str, durable: bool) -> _Pair:
        """Return a connection with a begun transaction; one that was cut while idle is replaced."""
        while True:
            connection, driver = self._idle.pop() if self._idle else await self._connected()
            used = driver.used
            try:
                await driver.begin(tenant, durable)
            except BaseException as error:
                await _discard(connection)  # cancelled in mid-way, nobody knows whether it began
                if not (used and isinstance(error, _CUT) and _is_lost(driver, error)):
                    raise
            else:
                return connection, driver

    async def _connected(self) -> _Pair:
        connection = await self._engine.connect()
        return connection, driver_of(connection)

    async def _take_back(self, lent: _Pair) -> None:
        """Roll back what is not committed; whether it was is decided already: nothing is raised."""
        connection, driver = lent
        usable = False
        try:
            with suppress(*_CUT):
                async with asyncio.timeout(_ROLLBACK_SECONDS):
                    await driver.rollback()
                    if connection.in_transaction():  # which SQLAlchemy believes to have begun
                        await connection.rollback()
                usable = not (driver.is_closed() or driver.is_in_transaction())
        finally:
            if usable and not self._closed and not connection.invalidated:
                self._idle.append(lent)
            else:
                await _discard(connection)


def _engine(url: str, schema: str, connect: float, statements: int) -> AsyncEngine:
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        poolclass=NullPool,
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


def _is_lost(driver: TenantConnection, error: BaseException) -> bool:
    return bool(driver.is_closed()) or isinstance(error, asyncpg.InternalClientError)


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
