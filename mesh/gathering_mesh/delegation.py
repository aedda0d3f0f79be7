"""Act for a user after the user's token has ended, by a delegation that the user can revoke."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from gathering_mesh.call import Call, Principal, new_trace
from gathering_mesh.ids import new_id
from gathering_mesh.tokens import Authenticator

# (tenant, delegation id) to an access token: AuthService.ExchangeDelegation, called by the
# service's own client with its actor token (mesh knows no service's contract).
Exchange = Callable[[str, str], Awaitable[str]]

_RENEWED_BEFORE = 60.0  # seconds before the token's end
_CACHED = 1024


@dataclass(frozen=True, slots=True)
class _Known:
    """Whom a token is of; `since` is when it was asked for."""

    principal: Principal
    since: float

    def serves(self, now: float) -> bool:
        """Tell whether the token is good for a while, also if the clock was set back meanwhile."""
        return self.since <= now <= self.principal.expires_at - _RENEWED_BEFORE


class Delegations:
    """Gives workers a Call as the user of a stored delegation; tokens are reused until near end.

    A revoked delegation works on for at most the life of the token that was fetched last.
    """

    def __init__(
        self,
        service: str,
        exchange: Exchange,
        authenticator: Authenticator,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service
        self._exchange = exchange
        self._authenticator = authenticator
        self._clock = clock
        self._principals: dict[tuple[str, str], _Known] = {}
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
            known, now = self._principals.get(key), self._clock()
            if known is None or not known.serves(now):
                self._forget(key)
                known = _Known(await self._exchanged(tenant, delegation_id), now)
                self._principals[key] = known
            return known.principal

    async def _exchanged(self, tenant: str, delegation_id: str) -> Principal:
        token = await self._exchange(tenant, delegation_id)
        return await self._authenticator.acting(token, self._service)

    def _forget(self, key: tuple[str, str]) -> None:
        """Drop one entry, and the oldest where there are too many."""
        self._principals.pop(key, None)
        while len(self._principals) >= _CACHED:
            self._principals.pop(next(iter(self._principals)))
