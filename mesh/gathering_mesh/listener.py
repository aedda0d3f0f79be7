"""Hear other replicas' notifications: one connection of its own, made again when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg

from gathering_mesh.loops import forever
from gathering_mesh.sockets import notice_silence

_CONNECT_SECONDS = 5.0
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Listener:
    """Calls `heard` for each notification of other sessions, and whenever it is connected anew."""

    def __init__(self, url: str, channel: str, heard: Callable[[], None]) -> None:
        self._url = url.replace("+asyncpg", "", 1)
        self._channel = channel
        self._heard = heard
        self._connection: Any = None  # asyncpg is untyped

    async def run(self) -> None:
        """Stay connected until cancelled."""
        await forever("listen", self._stay)

    async def notify(self) -> None:
        """Notify the others, if connected: a hint that may be lost."""
        if self._connection is not None:
            with contextlib.suppress(*_LOST):
                await self._connection.execute("select pg_notify($1, '')", self._channel)

    async def _stay(self) -> None:
        lost = asyncio.Event()
        connection = await asyncpg.connect(self._url, timeout=_CONNECT_SECONDS)
        try:
            notice_silence(connection._transport)
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._channel, self._on_notification)
            self._connection = connection
            self._heard()  # what came while nobody listened
            await lost.wait()
        finally:
            self._connection = None
            connection.terminate()

    def _on_notification(self, connection: Any, pid: int, _channel: str, _payload: str) -> None:
        if pid != connection.get_server_pid():
            self._heard()
