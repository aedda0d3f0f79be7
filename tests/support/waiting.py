"""Wait for conditions, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_POLL_SECONDS = 0.02


async def eventually(
    condition: Callable[[], Awaitable[object]], what: str = "", seconds: float = 40.0
) -> None:
    """Wait until a question is answered with yes; AssertionError after the time."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"did not come about in {seconds} s: {what}"
        await asyncio.sleep(_POLL_SECONDS)
