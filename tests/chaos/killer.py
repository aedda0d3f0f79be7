"""Kills, one after the other, of whatever lives: parts, at any moment or at a chosen point."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field

from gathering_local.processes import ProcessId
from gathering_mesh.faults import POINTS
from tests.chaos.mesh import ChaosMesh

_FREEZE = 0.08  # of all attacks: no kill, but a process that stands still for a while
_AT_A_POINT = 0.3
_SUPERVISOR = 0.015
_LONGEST_FREEZE = 14.0  # seconds; longer than a lease
_WAIT_FOR_A_POINT = 3.0
# Everything falls with it, so it is hit more seldom than the rest.
_RARE = {"postgres": 0.4}


@dataclass
class Killer:
    """Attacks a mesh; the seed decides what is hit and how long it waits in between."""

    mesh: ChaosMesh
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    freezes: int = 0
    _thaws: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def count(self) -> int:
        """Return how many living processes were killed."""
        return self.kills.total()

    async def attack(self) -> None:
        """Make one attack."""
        await asyncio.sleep(self.chance.uniform(0.5, 1.5))
        kind = self.chance.random()
        if kind < _SUPERVISOR:
            await self._kill_supervisor()
        elif kind < _SUPERVISOR + _FREEZE:
            self._freeze()
        elif kind < _SUPERVISOR + _FREEZE + _AT_A_POINT:
            await self._kill_at_a_point()
        else:
            self._kill_part()

    async def settle(self) -> None:
        """Take back what is still armed or frozen, and wait until all parts serve."""
        self.mesh.faults.disarm()
        await asyncio.gather(*self._thaws)
        await asyncio.to_thread(self.mesh.until_ready, None, 240.0)

    def _kill_part(self) -> None:
        living = self.mesh.living()
        if not living:
            return
        names = sorted(living)
        name = self.chance.choices(names, [_RARE.get(name, 1.0) for name in names])[0]
        with contextlib.suppress(ProcessLookupError):
            os.kill(living[name].pid, signal.SIGKILL)
            self.kills[name] += 1

    async def _kill_at_a_point(self) -> None:
        point = self.chance.choice(sorted(POINTS))
        at = self.chance.choice((1, 1, 2, 5))
        self.mesh.faults.arm(point, "kill", at=at)
        with contextlib.suppress(AssertionError):
            await self.mesh.faults.hit(point, seconds=_WAIT_FOR_A_POINT)
            self.kills[f"at {point}"] += 1
        self.mesh.faults.disarm()

    async def _kill_supervisor(self) -> None:
        os.kill(self.mesh.status.supervisor.pid, signal.SIGKILL)
        self.kills["supervisor"] += 1
        await asyncio.to_thread(self.mesh.up)

    def _freeze(self) -> None:
        living = self.mesh.living()
        name = self.chance.choice(sorted(living)) if living else ""
        if name in ("", "postgres"):  # its clients' sockets would stand still, not its work
            return
        with contextlib.suppress(ProcessLookupError):
            frozen = self.mesh.freeze(name)
            self.freezes += 1
            self._thaws.add(asyncio.create_task(self._thaw_later(frozen)))

    async def _thaw_later(self, frozen: ProcessId) -> None:
        await asyncio.sleep(self.chance.uniform(1.0, _LONGEST_FREEZE))
        self.mesh.thaw(frozen)
