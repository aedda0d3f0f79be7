"""A provider that is called a bounded number of times at once by this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from gathering_agent.models_dialogue import ModelEvent, ModelRequest
from gathering_agent.ports import ModelProvider


class LimitedProvider:
    """Lets calls wait for their turn, in order; each replica has a bound of its own."""

    def __init__(self, provider: ModelProvider, calls: int) -> None:
        self._provider = provider
        self._free = asyncio.Semaphore(calls)

    async def aclose(self) -> None:
        """Release connections."""
        await self._provider.aclose()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See `ModelProvider.stream`."""
        async with self._free:
            events = cast("AsyncGenerator[ModelEvent, None]", self._provider.stream(request))
            async with aclosing(events):
                async for event in events:
                    yield event
