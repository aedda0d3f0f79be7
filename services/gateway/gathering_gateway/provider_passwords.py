"""Argon2id in threads: a password takes tens of milliseconds, and the loop has other callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import argon2

from gathering_gateway.errors import Overloaded
from gathering_gateway.models import PasswordCost

T = TypeVar("T")
_UNKNOWN = "the password of nobody"


class Argon2Passwords:
    """Hashes and verifies; at most `threads` at once, and few more wait."""

    def __init__(self, cost: PasswordCost) -> None:
        self._hasher = argon2.PasswordHasher(
            time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes
        )
        self._pool = ThreadPoolExecutor(cost.threads, thread_name_prefix="argon2")
        self._most = cost.threads + cost.waiting
        self._running = 0
        self._nobody = self._hasher.hash(_UNKNOWN)

    async def hash(self, password: str) -> str:
        """Return what to store."""
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Tell whether it is the password; without a hash it takes as long, and is not."""
        good = await self._in_thread(lambda: self._verified(password, stored or self._nobody))
        return good and stored is not None

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verified(self, password: str, stored: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._running >= self._most:
            raise Overloaded("too many passwords wait to be checked", retry_after=1.0)
        self._running += 1
        future = self._pool.submit(work)
        # A caller who leaves does not make the thread free: it counts until it is done.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(future)

    def _done(self) -> None:
        self._running -= 1
