"""Text deltas between replicas: what is written here goes out, what is watched here comes in.

Never in the way of a turn: the worker adds to its own text and nudges; everything else is done
here, later, and again where it failed. A replica says which turns are watched there and run
elsewhere; text that nobody wants stays where it is. Who wants it is sent the whole text of a step
first, and so are, now and then, all: whoever missed a piece has it then, and the end of each step
comes from Postgres.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from gathering_agent.ports import DeltaWire
from gathering_agent.streams.live import Live
from gathering_agent.streams.models import Activity, Output, Piece
from gathering_mesh.loops import forever

_BETWEEN_SENDS = 0.025  # seconds
_BEFORE_FIRST = 0.015  # what is stored by then, as answers of the offline model, is not sent at all
_WANTED_AGAIN = 5.0  # seconds; who runs a turn may have changed, or Redis may have lost it
_WANTED_FOR = 15.0
_BETWEEN_READS = 0.01
_FIRST_PAUSE = 0.2  # after a failure; doubling, so that nothing tries each delta in vain
_LONGEST_PAUSE = 5.0
_LONGEST_READ = 1.0
_LONGEST_WAIT = 5.0
_IDLE = 60.0
_PIECES_BETWEEN_WHOLE_TEXTS = 200  # the wire keeps at least twice as many
_SECONDS_BETWEEN_WHOLE_TEXTS = 60.0  # where the model paused; the wire keeps for twice as long
_BYTES_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Sent:
    """How much of an attempt's text is on the wire, and how long ago it was sent as a whole."""

    step: int
    generation: str
    end: int
    pieces: int
    time: float


class Sharing:
    """Shares the text of this process's turns; `run` it for as long as it serves."""

    def __init__(self, live: Live, wire: DeltaWire) -> None:
        self._live = live
        self._wire = wire
        self._sent: dict[str, _Sent] = {}
        self._positions: dict[str, str] = {}
        self._to_follow = asyncio.Event()

    async def run(self) -> None:
        """Send and receive until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for what, step in (
                ("send deltas", self._send),
                ("receive deltas", self._receive),
                ("follow turns", self._follow),
                ("hear what is wanted", self._hear),
            ):
                tasks.create_task(
                    forever(what, step, first=_FIRST_PAUSE, most=_LONGEST_PAUSE, vital=False)
                )

    # --- Out ------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send what is new, a bounded part of it at once."""
        if not (self._live.unsent or self._live.untold or self._live.unshared):
            await self._live.text_written.wait(_IDLE, gather=_BEFORE_FIRST)
        sent = self._next()
        # What tools tell before that they ended; both are told once, or not at all.
        told: list[tuple[str, Activity | Output]] = [*self._outputs(), *self._live.untold]
        self._live.untold.clear()
        if not sent and not told:
            return
        try:
            await self._wire.send(list(sent), told)
        except BaseException:
            self._live.unsent |= {piece.turn_id for piece in sent}
            self._sent.clear()  # whatever arrived of it: next comes the whole text
            raise
        self._sent |= {piece.turn_id: state for piece, state in sent.items()}
        await asyncio.sleep(_BETWEEN_SENDS)

    def _next(self) -> dict[Piece, _Sent]:
        """Take unsent text off the list."""
        self._sent = {t: state for t, state in self._sent.items() if self._live.partial(t)}
        found: dict[Piece, _Sent] = {}
        size = 0
        while self._live.unsent and size < _BYTES_AT_ONCE:
            turn_id = self._live.unsent.pop()
            if one := self._piece(turn_id):
                size += len(one[0].text)
                found[one[0]] = one[1]
        return found

    def _outputs(self) -> list[tuple[str, Output]]:
        """Take what tools tell off the list."""
        found: list[tuple[str, Output]] = []
        size = 0
        while self._live.unshared and size < _BYTES_AT_ONCE:
            turn_id = self._live.unshared.pop()
            for piece in self._live.share(turn_id):
                size += len(piece.text)
                found.append((turn_id, piece))
        return found

    def _piece(self, turn_id: str) -> tuple[Piece, _Sent] | None:
        partial = self._live.partial(turn_id)
        if partial is None:
            return None
        now = time.monotonic()
        step, generation = partial.step, partial.generation
        before = self._sent.get(turn_id)
        if before is None or _due_as_a_whole(before, step, generation, now):
            before = _Sent(step, generation, 0, 0, now)
        piece = Piece(turn_id, step, generation, before.end, bytes(partial.text[before.end :]))
        return piece, _Sent(step, generation, len(partial.text), before.pieces + 1, now)

    # --- In -------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """Learn which turns are watched at other replicas."""
        self._live.want(await self._wire.wanted(_LONGEST_WAIT), _WANTED_FOR)

    async def _follow(self) -> None:
        """Say what is watched here, now and then again; have the reader read it."""
        pause = _WANTED_AGAIN if self._positions else _IDLE
        news = await self._live.watched.wait(pause, gather=_BETWEEN_READS)
        followed = self._live.followed()
        added = followed - self._positions.keys()
        if added:
            if self._to_follow.is_set():
                await self._wire.wake()
            self._to_follow.set()
        if wanted := added if news else followed:
            await self._wire.want(wanted)

    async def _receive(self) -> None:
        """Read the turns that are watched here and run elsewhere."""
        followed = self._live.followed()
        self._positions = {turn_id: self._positions.get(turn_id, "") for turn_id in followed}
        if not followed:
            self._to_follow.clear()
            await self._to_follow.wait()
            return
        for one in await self._wire.receive(self._positions, _LONGEST_READ):
            self._positions[one.turn_id] = one.position
            if one.piece is not None:
                self._live.receive(one.piece)
            elif one.told is not None:
                self._live.hear(one.turn_id, one.told)
        await asyncio.sleep(_BETWEEN_READS)


def _due_as_a_whole(before: _Sent, step: int, generation: str, now: float) -> bool:
    return (
        (before.step, before.generation) != (step, generation)
        or before.pieces >= _PIECES_BETWEEN_WHOLE_TEXTS
        or now - before.time > _SECONDS_BETWEEN_WHOLE_TEXTS
    )
