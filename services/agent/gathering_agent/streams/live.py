"""What this process knows of turns that run or are watched here: partial text and wake-ups.

Nothing here is needed for correctness: what is lost with the process is told from Postgres.
A watcher is a place in the text and a wait, so a slow one costs nothing but its own delay.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from gathering_agent.models import Message, Role, Turn
from gathering_agent.streams.models import Activity, Output, Piece, generation_order
from gathering_mesh.nudge import Nudge

_UNTOLD = 1000  # of what tools do; who misses some has the results
_LATEST = 64 * 1024  # bytes that are kept of what a tool call tells; its execution has all
_TELLING = 16  # tool calls of which they are kept


@dataclass(slots=True)
class Partial:
    """The text of the step that is being written; `generation` names the attempt (fence-try)."""

    step: int
    generation: str
    text: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class Latest:
    """The latest of what a tool call tells, from `start` on; `of` says whose it is.

    `shared`: how far others were sent it, in bytes of the whole.
    """

    of: Output
    start: int
    text: bytearray
    shared: int

    @classmethod
    def begin(cls, piece: Output) -> Latest:
        """Return what is known with a first piece."""
        return cls(replace(piece, text=b""), piece.offset, bytearray(piece.text), piece.offset)

    @property
    def end(self) -> int:
        """Return where the next piece begins."""
        return self.start + len(self.text)

    def add(self, piece: Output) -> None:
        """Add what is new of a piece that begins within what is known or at its end."""
        self.text += piece.text[self.end - piece.offset :]
        over = len(self.text) - _LATEST
        if over > 0:
            over = next_border(self.text, over)
            del self.text[:over]
            self.start += over

    def after(self, attempt: int, offset: int) -> Output | None:
        """Return what is kept behind a place, if there is any."""
        start = max(self.start, offset) if attempt == self.of.attempt else self.start
        if start >= self.end:
            return None
        return replace(self.of, offset=start, text=bytes(self.text[start - self.start :]))


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

    def __init__(
        self, written: Callable[[], None], told: Callable[[Activity | Output], None]
    ) -> None:
        self.users = 0
        self.runs_here = False
        self.partial: Partial | None = None
        self.activities: list[Activity] = []  # of the tool calls of one step, as they were told
        self.outputs: dict[str, Latest] = {}  # of the same calls, what they tell
        self.known: Known | None = None  # all that is stored, where the turn runs here
        self.text_version = 0
        self.stored_version = 0
        self.cancelled = asyncio.Event()
        self._for_text: set[_Waiter] = set()
        self._for_stored: set[_Waiter] = set()
        self._written = written
        self._told = told

    @property
    def has_ended(self) -> bool:
        """Tell whether this process stored the end of the turn."""
        return self.known is not None and self.known.turn.ended

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

    def tell(self, news: Activity | Output) -> None:
        """Tell what a tool call is doing, or what it tells, here and at other replicas."""
        self.hear(news)
        self._told(news)

    def hear(self, news: Activity | Output) -> None:
        """Take what a tool call is doing, or what it tells; another step's are no news any more."""
        if isinstance(news, Output):
            self._hear_output(news)
        else:
            self._hear_activity(news)

    def _hear_output(self, piece: Output) -> None:
        """Take a piece in whatever order pieces come; where some are missing it begins anew."""
        if any(one.of.step != piece.step for one in self.outputs.values()):
            self.outputs = {}
        known = self.outputs.get(piece.call_id)
        if known is not None and known.of.attempt > piece.attempt:
            return
        if known is None or known.of.attempt < piece.attempt or known.end < piece.offset:
            self.outputs.pop(piece.call_id, None)
            self.outputs[piece.call_id] = Latest.begin(piece)
        elif known.end < piece.offset + len(piece.text):
            known.add(piece)
        else:
            return
        while len(self.outputs) > _TELLING:
            del self.outputs[next(iter(self.outputs))]
        self._more()

    def _hear_activity(self, activity: Activity) -> None:
        if self.activities and self.activities[0].step != activity.step:
            self.activities = []
        if activity not in self.activities:  # a turn that waits for a person looks again and again
            self.activities.append(activity)
            self._more()

    def stored(self, known: Known | None = None) -> None:
        """Tell that Postgres has news of this turn; `known`: they need not be read."""
        self.known = known
        if known is not None and known.messages and known.messages[-1].role is Role.TOOL:
            self.activities, self.outputs = [], {}  # who watches from now on has the results
        self.stored_version += 1
        _wake(self._for_stored)

    def _more(self) -> None:
        self.text_version += 1
        _wake(self._for_text)

    async def news(self, text_version: int, stored_version: int, timeout: float) -> None:
        """Wait until there is more than these versions, at most so long (seconds)."""
        if self.text_version == text_version and self.stored_version == stored_version:
            await _wait(timeout, self._for_text, self._for_stored)

    async def stored_news(self, stored_version: int, timeout: float) -> None:
        """Wait until more is stored, at most so long (seconds)."""
        if self.stored_version == stored_version:
            await _wait(timeout, self._for_stored)


_Waiter = asyncio.Future[None]


async def _wait(timeout: float, *rooms: set[_Waiter]) -> None:
    """Wait in these rooms until somebody wakes one, at most so long: cheaper than an event each."""
    loop = asyncio.get_running_loop()
    waiter: _Waiter = loop.create_future()
    timer = loop.call_later(timeout, _wake, {waiter})
    for room in rooms:
        room.add(waiter)
    try:
        await waiter
    finally:
        timer.cancel()
        for room in rooms:
            room.discard(waiter)


def _wake(room: set[_Waiter]) -> None:
    for waiter in room:
        if not waiter.done():
            waiter.set_result(None)


class Live:
    """The turns of this process."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self.unsent: set[str] = set()  # turns of this replica with text that others want
        self.untold: deque[tuple[str, Activity]] = deque(maxlen=_UNTOLD)  # what tools do, likewise
        self.unshared: set[str] = set()  # turns with tools that tell something, likewise
        self.text_written = Nudge()
        self._wanted: dict[str, float] = {}  # watched at other replicas, until (time.monotonic())
        self.watched = Nudge()  # a turn of another replica is watched here

    @contextmanager
    def watching(self, turn_id: str) -> Iterator[Channel]:
        """Lend the channel of a turn to a watcher."""
        channel = self._channels.get(turn_id)
        if channel is None:
            channel = self._channels[turn_id] = Channel(
                lambda: self._written(turn_id), lambda news: self._told(turn_id, news)
            )
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
                self.unshared.discard(turn_id)
                channel.stored(channel.known if channel.has_ended else None)
                if not channel.has_ended:
                    self.watched.give()

    @property
    def busy(self) -> int:
        """Return how many turns run or are watched here."""
        return len(self._channels)

    def followed(self) -> set[str]:
        """Return the turns that are watched here and run elsewhere."""
        return {
            turn_id
            for turn_id, one in self._channels.items()
            if not (one.runs_here or one.has_ended)
        }

    def want(self, turn_ids: Iterable[str], seconds: float) -> None:
        """Have the text of turns sent to other replicas for so long, of those that run here."""
        now = time.monotonic()
        self._wanted = {turn_id: until for turn_id, until in self._wanted.items() if until > now}
        for turn_id in turn_ids:
            begins = turn_id not in self._wanted
            self._wanted[turn_id] = now + seconds
            if begins and self.partial(turn_id):
                self._written(turn_id)
            if begins and turn_id in self._channels and self._channels[turn_id].runs_here:
                self._tell_again(turn_id, self._channels[turn_id])

    def _tell_again(self, turn_id: str, channel: Channel) -> None:
        for activity in channel.activities:
            self._told(turn_id, activity)
        for one in channel.outputs.values():
            one.shared = one.start
            self._told(turn_id, one.of)

    def share(self, turn_id: str) -> list[Output]:
        """Return what tool calls of a turn told since this was asked last; it counts as sent."""
        channel = self._channels.get(turn_id)
        found: list[Output] = []
        for one in channel.outputs.values() if channel and channel.runs_here else ():
            if piece := one.after(one.of.attempt, one.shared):
                found.append(piece)
                one.shared = one.end
        return found

    def partial(self, turn_id: str) -> Partial | None:
        """Return the text that is being written here."""
        channel = self._channels.get(turn_id)
        return channel.partial if channel and channel.runs_here else None

    def receive(self, piece: Piece) -> None:
        """Hand a piece from another replica to its watchers."""
        channel = self._channels.get(piece.turn_id)
        if channel and not channel.runs_here:
            channel.receive(piece)

    def hear(self, turn_id: str, news: Activity | Output) -> None:
        """Hand what a tool is doing at another replica, or tells, to the watchers here."""
        channel = self._channels.get(turn_id)
        if channel and not channel.runs_here:
            channel.hear(news)

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

    def _told(self, turn_id: str, news: Activity | Output) -> None:
        if turn_id not in self._wanted:
            return
        if isinstance(news, Output):
            self.unshared.add(turn_id)
        else:
            self.untold.append((turn_id, news))
        self.text_written.give()

    def _written(self, turn_id: str) -> None:
        if turn_id in self._wanted:
            self.unsent.add(turn_id)
            self.text_written.give()


def next_border(text: bytes | bytearray, start: int) -> int:
    """Return the first place at or behind `start` that is not inside a character."""
    while start < len(text) and text[start] & 0xC0 == 0x80:  # noqa: PLR2004 (UTF-8's continuation)
        start += 1
    return start
