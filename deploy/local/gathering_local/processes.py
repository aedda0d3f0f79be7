"""Processes that can be told apart from others which later got the same id."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.02
_FIELD_STATE = 0  # Of /proc/<pid>/stat, behind the command's closing parenthesis.
_FIELD_START = 19


@dataclass(frozen=True)
class ProcessId:
    """A process: its id and, in clock ticks since the machine started, when it began."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """Return the living process of this id."""
        fields = _stat(pid)
        return cls(pid, int(fields[_FIELD_START])) if fields else None

    def alive(self) -> bool:
        """Tell whether this very process runs."""
        return ProcessId.of(self.pid) == self

    async def end(self, grace: float, politely: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; kill it after `grace` seconds."""
        for how, seconds in ((politely, grace), (signal.SIGKILL, 5.0)):
            if not self.alive():
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)
            await self._gone(seconds)

    async def _gone(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - not our child: nothing tells its end
            await asyncio.sleep(_POLL_SECONDS)


def _stat(pid: int) -> list[str]:
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()
    return [] if fields[_FIELD_STATE] in "ZX" else fields
