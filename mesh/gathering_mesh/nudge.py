"""Wake a loop of this process: a hint that there is something to do, never the only one."""

from __future__ import annotations

import asyncio


class Nudge:
    """Several hints before the loop looks are one; one loop waits on one nudge."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def give(self) -> None:
        """Wake the loop now, or at its next wait."""
        self._event.set()

    async def wait(self, timeout: float, *, gather: float = 0.0) -> bool:
        """Return True when nudged, False after the timeout in seconds.

        A nudge waits `gather` seconds for others, which are answered together with it.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return False
        if gather:
            await asyncio.sleep(gather)
        self._event.clear()
        return True
