"""Connections to providers that are made with tenants' own keys: few, and closed when unused."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gathering_agent.ports import ModelProvider
from gathering_agent.providers.models_keys import Credential

Make = Callable[[str], ModelProvider]  # by a key


@dataclass(eq=False, slots=True)
class _Client:
    provider: ModelProvider
    secret: str = field(repr=False)
    users: int = 0
    retired: bool = False

    async def retire(self) -> None:
        """Close it as soon as nobody uses it."""
        self.retired = True
        if not self.users:
            await self.provider.aclose()


class Clients:
    """At most `most` clients that are kept; those in use live until they are not."""

    def __init__(self, makers: Mapping[str, Make], most: int = 64) -> None:
        self._makers = makers
        self._most = most
        self._clients: OrderedDict[tuple[str, str], _Client] = OrderedDict()
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def use(self, credential: Credential) -> AsyncIterator[ModelProvider]:
        """Yield the client of a credential."""
        client = await self._get(credential)
        try:
            yield client.provider
        finally:
            client.users -= 1
            if client.retired:
                await client.retire()

    async def _get(self, credential: Credential) -> _Client:
        """Return a client, which counts one user more."""
        name = (credential.tenant, credential.provider)
        client = self._known(name, credential)
        if client is None:
            async with self._making:
                client = self._known(name, credential) or await self._make(name, credential)
        return client

    def _known(self, name: tuple[str, str], credential: Credential) -> _Client | None:
        client = self._clients.get(name)
        if client is None or client.secret != credential.secret:
            return None
        self._clients.move_to_end(name)
        client.users += 1
        return client

    async def _make(self, name: tuple[str, str], credential: Credential) -> _Client:
        make = self._makers[credential.provider]
        # An SDK may be imported only now, which takes seconds.
        provider = await asyncio.to_thread(make, credential.secret)
        client = _Client(provider, credential.secret, users=1)
        old = self._clients.pop(name, None)
        self._clients[name] = client
        retired = [old] if old else []
        while len(self._clients) > self._most:
            retired.append(self._clients.popitem(last=False)[1])
        for one in retired:
            await one.retire()
        return client

    async def forget(self, tenant: str) -> None:
        """Drop the clients of a tenant, whose keys have changed."""
        for name in [name for name in self._clients if name[0] == tenant]:
            await self._clients.pop(name).retire()

    async def aclose(self) -> None:
        """Close all."""
        while self._clients:
            await self._clients.popitem()[1].provider.aclose()
