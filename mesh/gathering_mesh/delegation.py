"""Act for a user after the user's token has ended, by a delegation that the user can revoke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from gathering_mesh.call import Call, Principal, new_trace
from gathering_mesh.ids import new_id
from gathering_mesh.tokens import Authenticator

# (tenant, delegation id) to an access token: AuthService.ExchangeDelegation, called by the
# service's own client with its actor token (mesh knows no service's contract).
Exchange = Callable[[str, str], Awaitable[str]]

_RENEWED_BEFORE = 60.0  # seconds before the token's end
_CACHED = 1024


class Delegations:
    """Gives workers a Call as the user of a stored delegation; tokens are reused until near end.

    A revoked delegation works on for at most the life of the token that was fetched last.
    """

    def __init__(self, service: str, exchange: Exchange, authenticator: Authenticator) -> None:
        self._service = service
        self._exchange = exchange
        self._authenticator = authenticator
        self._principals: dict[tuple[str, str], Principal] = {}
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def call(
        self, tenant: str, delegation_id: str, *, method: str = "", trace: str = ""
    ) -> Call:
        """Return a Call as the delegation's user, good for at least a minute.

        Take a new one for each step of long work. Errors of the exchange go through:
        Unauthenticated with reason CREDENTIALS_REVOKED means that the work has to stop.
        """
        return Call(
            principal=await self._principal(tenant, delegation_id),
            method=method,
            trace=trace or new_trace(),
            correlation_id=new_id("req"),
        )

    async def _principal(self, tenant: str, delegation_id: str) -> Principal:
        key = (tenant, delegation_id)
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._principals.get(key)
            if known is None or known.expires_at - time.time() < _RENEWED_BEFORE:
                self._forget(key)
                known = await self._exchanged(tenant, delegation_id)
                self._principals[key] = known
            return known

    async def _exchanged(self, tenant: str, delegation_id: str) -> Principal:
        token = await self._exchange(tenant, delegation_id)
        return await self._authenticator.acting(token, self._service)

    def _forget(self, key: tuple[str, str]) -> None:
        """Drop one entry, and the oldest where there are too many."""
        self._principals.pop(key, None)
        while len(self._principals) >= _CACHED:
            self._principals.pop(next(iter(self._principals)))
