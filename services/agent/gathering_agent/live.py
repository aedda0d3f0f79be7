"""What this process knows of turns that run or are watched here: partial text and wake-ups.

Nothing here is needed for correctness: what is lost with the process is told from Postgres.
A watcher is a place in the text and a wait, so a slow one costs nothing but its own delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gathering_agent.models import Message, Turn
from gathering_agent.models_frames import Piece, generation_order
from gathering_mesh.nudge import Nudge


@dataclass(slots=True)
class Partial:
    """The text of the step that is being written; `generation` names the attempt (fence-try)."""

    step: int
    generation: str
    text: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Known:
    """A turn and its messages as this process stored them, oldest first."""

    turn: Turn
    messages: tuple[Message, ...]

    def after(self, sequence: int) -> list[Message]:
        """Return the messages above a sequence."""
        return [message for message in self.messages if message.sequence > sequence]


class Channel:
    """One turn. Versions grow with each change, so that no wait misses one."""

    def __init__(self, written: Callable[[], None]) -> None:
        self.users = 0
        self.runs_here = False
        self.partial: Partial | None = None
        self.known: Known | None = None  # all that is stored, where the turn runs here
        self.text_version = 0
        self.stored_version = 0
        self.cancelled = asyncio.Event()
        self._changed = asyncio.Event()
        self._written = written

    def begin(self, step: int, generation: str) -> None:
        """Begin an attempt at a step; what an earlier attempt wrote is void."""
        self.partial = Partial(step, generation)
        self._more()
        self._written()

    def add(self, text: str) -> None:
        """Add to the text of the attempt."""
        if self.partial is not None and text:
            self.partial.text += text.encode()
            self._more()
            self._written()

    def receive(self, piece: Piece) -> None:
        """Take a piece of text that another replica writes, in whatever order pieces come.

        Older attempts are void; a piece behind a gap is left: the whole text comes again, or the
        stored step.
        """
        known = self.partial
        order = generation_order(piece.step, piece.generation)
        if known is None or generation_order(known.step, known.generation) < order:
            if piece.offset:
                return
            known = self.partial = Partial(piece.step, piece.generation)
        elif (known.step, known.generation) != (piece.step, piece.generation):
            return
        if piece.offset <= len(known.text):
            known.text += piece.text[len(known.text) - piece.offset :]
            self._more()

    def stored(self, known: Known | None = None) -> None:
        """Tell that Postgres has news of this turn; `known`: they need not be read."""
        self.known = known
        self.stored_version += 1
        self._wake()

    def _more(self) -> None:
        self.text_version += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self, text_version: int, stored_version: int, timeout: float) -> None:
        """Wait until there is more than these versions, at most so long (seconds)."""
        await self._wait(
            lambda: self.text_version != text_version or self.stored_version != stored_version,
            timeout,
        )

    async def stored_news(self, stored_version: int, timeout: float) -> None:
        """Wait until more is stored, at most so long (seconds)."""
        await self._wait(lambda: self.stored_version != stored_version, timeout)

    async def _wait(self, come: Callable[[], bool], timeout: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                while not come():
                    await self._changed.wait()
        except TimeoutError:
            return


class Live:
    """The turns of this process."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self.unsent: set[str] = set()  # turns of this replica with text that others do not have
        self.text_written = Nudge()
        self.watched = Nudge()  # a turn of another replica is watched here

    @contextmanager
    def watching(self, turn_id: str) -> Iterator[Channel]:
        """Lend the channel of a turn to a watcher."""
        channel = self._channels.get(turn_id)
        if channel is None:
            channel = self._channels[turn_id] = Channel(lambda: self._written(turn_id))
            self.watched.give()
        channel.users += 1
        try:
            yield channel
        finally:
            channel.users -= 1
            if not channel.users:
                self._channels.pop(turn_id, None)

    @contextmanager
    def running(self, turn_id: str) -> Iterator[Channel]:
        """Lend the channel of a turn to the worker that runs it."""
        with self.watching(turn_id) as channel:
            channel.runs_here = True
            try:
                yield channel
            finally:
                channel.runs_here = False
                channel.partial = None
                self.unsent.discard(turn_id)
                ended = channel.known is not None and channel.known.turn.ended
                channel.stored(channel.known if ended else None)
                self.watched.give()

    def followed(self) -> set[str]:
        """Return the turns that are watched here and do not run here."""
        return {turn_id for turn_id, one in self._channels.items() if not one.runs_here}

    def partial(self, turn_id: str) -> Partial | None:
        """Return the text that is being written here."""
        channel = self._channels.get(turn_id)
        return channel.partial if channel and channel.runs_here else None

    def receive(self, piece: Piece) -> None:
        """Hand a piece from another replica to its watchers."""
        channel = self._channels.get(piece.turn_id)
        if channel and not channel.runs_here:
            channel.receive(piece)

    def stored(self, turn_id: str) -> None:
        """Wake the watchers of a turn for what another replica stored."""
        channel = self._channels.get(turn_id)
        if channel and not channel.runs_here:
            channel.stored()

    def cancel(self, turn_id: str) -> None:
        """Stop the worker of a turn, if it is here, and wake the watchers."""
        if channel := self._channels.get(turn_id):
            channel.cancelled.set()
            channel.stored()

    def _written(self, turn_id: str) -> None:
        self.unsent.add(turn_id)
        self.text_written.give()
