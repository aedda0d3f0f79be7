"""What a tool tells as it runs: gathered, and kept piece by piece while the lease is held.

Nothing is kept for its own sake before 0.2 seconds have passed: what a quick tool tells is written
with its end. A piece that may have been written is written again as it was, which changes nothing.
"""

from __future__ import annotations

import asyncio
import itertools

from gathering_mesh import faults
from gathering_mesh.errors import DomainError
from gathering_mesh.lease import Lease
from gathering_mesh.loops import backoff, report
from gathering_mesh.postgres import Transaction
from gathering_skills.models import Execution
from gathering_skills.models_outputs import PIECE_BYTES, Piece, border
from gathering_skills.ports import OutputRows
from gathering_skills.waiting import Wakeups

MOST_BYTES = 16 * 1024 * 1024
CUT_LINE = "\n[The output was longer than 16 MiB; the rest of it is not kept.]\n"
_GATHER_SECONDS = 0.2
_MOST_WAITING = 256 * 1024  # bytes; a tool that tells faster than they are written waits


class Telling:
    """What one attempt tells."""

    def __init__(self, rows: OutputRows, wakeups: Wakeups, execution: Execution) -> None:
        self._rows = rows
        self._wakeups = wakeups
        self._execution = execution
        self._waiting = bytearray()  # not written yet
        self._batch: list[Piece] = []  # being written, or perhaps written
        self._end = 0  # of what was taken into batches
        self._cut = False
        self._most_waiting = _MOST_WAITING
        self._some, self._much, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @property
    def has_told(self) -> bool:
        """Tell whether anything was told."""
        return bool(self._end or self._waiting)

    async def tell(self, text: str) -> None:
        """Take more text; wait while much of it is not written yet."""
        self.add(text)
        while len(self._waiting) >= self._most_waiting:
            self._room.clear()
            await self._room.wait()

    def add(self, text: str) -> None:
        """Take more text, up to the bound, and say where it was cut."""
        content = text.encode(errors="replace")
        if self._cut or not content:
            return
        room = MOST_BYTES - self._end - len(self._waiting)
        if len(content) > room:
            self._cut = True
            content = content[: border(content, room)] + CUT_LINE.encode()
        self._waiting += content
        self._some.set()
        if len(self._waiting) >= PIECE_BYTES:
            self._much.set()

    async def keep(self, lease: Lease) -> None:
        """Write what is told, until cancelled; through an outage as well."""
        try:
            while True:
                await self._some.wait()
                await _set_within(self._much, _GATHER_SECONDS)
                await self._insist(lease)
        finally:
            self._most_waiting = 2 * MOST_BYTES  # nobody waits for what is not written any more
            self._room.set()

    async def _insist(self, lease: Lease) -> None:
        for failures in itertools.count(1):
            try:
                await self._write(lease)
            except DomainError as error:
                report("keep what a tool tells", error, failures)
                await asyncio.sleep(backoff(failures, 0.1, 2.0))
            else:
                return

    async def _write(self, lease: Lease) -> None:
        async with lease.transaction() as tx:
            await self.rest(tx)
        self._batch = []
        await faults.point("execution.told")
        self._wakeups.told(self._execution.id)

    async def rest(self, tx: Transaction) -> None:
        """Write what is not known to be written, with a transaction."""
        self._batch += self._taken()
        if self._batch:
            execution = self._execution
            await self._rows.append(tx, execution.id, execution.attempt_count, self._batch)

    def _taken(self) -> list[Piece]:
        """Take what waits, in pieces that end between characters."""
        content, pieces = bytes(self._waiting), []
        self._waiting.clear()
        for event in (self._some, self._much):
            event.clear()
        self._room.set()
        start = 0
        while start < len(content):
            end = border(content, start + PIECE_BYTES)
            piece = content[start:end]
            pieces.append(Piece(self._end, piece, self._cut and end >= len(content)))
            self._end += len(piece)
            start = end
        return pieces


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
