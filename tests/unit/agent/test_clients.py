"""Clients with tenants' keys: few, one for each key, and none closed while it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from gathering_agent.providers.clients import Clients
from gathering_agent.providers.models_dialogue import Answer, ModelEvent, ModelRequest
from gathering_agent.providers.models_keys import Credential


class _Provider:
    def __init__(self, key: str) -> None:
        self.key = key
        self.closed = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        yield Answer()

    async def aclose(self) -> None:
        self.closed += 1


class _Made:
    """Keeps what was made."""

    def __init__(self) -> None:
        self.all: list[_Provider] = []

    def __call__(self, key: str) -> _Provider:
        self.all.append(_Provider(key))
        return self.all[-1]

    @property
    def closed(self) -> list[int]:
        return [one.closed for one in self.all]


def of(tenant: str, key: str) -> Credential:
    return Credential("p", key, tenant)


async def use(clients: Clients, credential: Credential) -> str:
    async with clients.use(credential) as provider:
        assert isinstance(provider, _Provider)
        assert not provider.closed
        return provider.key


async def test_one_client_serves_all_calls_of_a_key() -> None:
    made = _Made()
    clients = Clients({"p": made})
    found = await asyncio.gather(*[use(clients, of("a", "one")) for _ in range(5)])
    assert found == ["one"] * 5
    assert len(made.all) == 1
    assert await use(clients, of("b", "one")) == "one"
    assert len(made.all) == 2, "tenants share no connections"
    await clients.aclose()
    assert made.closed == [1, 1]


async def test_changed_key_closes_the_client_when_its_last_call_is_over() -> None:
    made = _Made()
    clients = Clients({"p": made})
    async with clients.use(of("a", "old")):
        assert await use(clients, of("a", "new")) == "new"
        assert made.closed == [0, 0]
    assert made.closed == [1, 0]


async def test_clients_beyond_the_bound_are_closed_oldest_first() -> None:
    made = _Made()
    clients = Clients({"p": made}, most=2)
    async with AsyncExitStack() as held:
        await held.enter_async_context(clients.use(of("a", "one")))
        for tenant in ("b", "c"):
            await use(clients, of(tenant, "key"))
        assert made.closed == [0, 0, 0], "the oldest is in use"
    assert made.closed == [1, 0, 0]
    await use(clients, of("d", "key"))
    assert made.closed == [1, 1, 0, 0]


async def test_forgotten_tenant_has_no_client_left() -> None:
    made = _Made()
    clients = Clients({"p": made})
    for tenant in ("a", "b"):
        await use(clients, of(tenant, "key"))
    await clients.forget("a")
    assert made.closed == [1, 0]
