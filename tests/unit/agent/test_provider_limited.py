"""A provider that is called only so often at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gathering_agent.app_models import open_providers
from gathering_agent.models_dialogue import Answer, ModelEvent, ModelRequest, TextDelta
from gathering_agent.provider_limited import LimitedProvider
from gathering_agent.settings import AgentSettings


class _Counting:
    """Counts the calls that run at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(3):
                yield TextDelta("x")
                await asyncio.sleep(0)
            yield Answer()
        finally:
            self.now -= 1

    async def aclose(self) -> None:
        """Release nothing."""


REQUEST = ModelRequest("t", 1, "m", "", ())


async def test_calls_beyond_the_bound_wait_and_are_served() -> None:
    inner = _Counting()
    provider = LimitedProvider(inner, 2)

    async def call() -> int:
        return len([event async for event in provider.stream(REQUEST)])

    assert await asyncio.gather(*(call() for _ in range(7))) == [4] * 7
    assert inner.most == 2


async def test_call_that_is_given_up_makes_room() -> None:
    inner = _Counting()
    provider = LimitedProvider(inner, 1)
    stream = provider.stream(REQUEST)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]  # a generator, as all providers
    assert inner.now == 0
    assert isinstance(await anext(provider.stream(REQUEST)), TextDelta)


async def test_bound_is_set_by_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATHERING_AGENT_PROVIDER_CALLS", '{"offline": 1, "absent": 2}')
    providers = open_providers(AgentSettings())
    assert isinstance(providers["offline"], LimitedProvider)
    assert "absent" not in providers
