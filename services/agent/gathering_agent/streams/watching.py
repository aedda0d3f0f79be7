"""The stream of a turn: stored messages from Postgres, the text in between from this process.

Whatever is lost, the texts that a watcher puts together from its frames are those that are stored:
before a step's message its text was sent to the end, and text that is void was withdrawn.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from gathering_agent.errors import BadCursor
from gathering_agent.models import Message, Role, Turn, TurnState
from gathering_agent.ports import Rows
from gathering_agent.streams.live import Channel, Live
from gathering_agent.streams.models import (
    Began,
    Cursor,
    Delta,
    Doing,
    Ended,
    Frame,
    FrameBody,
    Reconnect,
    Stored,
    Withdrawn,
)
from gathering_agent.turns.turns import Turns
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database
from gathering_mesh.streams import until_closing

_POLL = 1.0  # seconds; another replica's news come by the log, this is for safety
_POLL_WHERE_IT_RUNS = 5.0
_LEAST_BETWEEN_DELTAS, _MOST_BETWEEN_DELTAS = 0.02, 0.05  # seconds
_CROWD = 64  # turns of this replica; so many have their text in larger pieces
_LONGEST_DELTA = 64 * 1024  # bytes


class Watching:
    """Streams turns."""

    def __init__(self, db: Database, rows: Rows, turns: Turns, live: Live) -> None:
        self._db = db
        self._rows = rows
        self._turns = turns
        self._live = live

    async def watch(self, call: Call, turn_id: str, after: str) -> AsyncIterator[Frame]:
        """Yield the frames of a turn after a cursor; the last is Ended or Reconnect.

        Raises TurnNotFound, BadCursor.
        """
        cursor = Cursor.decode(turn_id, after)
        async for frame in self._watch(call, await self._turns.get(call, turn_id), cursor):
            yield frame

    async def watch_new(self, call: Call, turn: Turn) -> AsyncIterator[Frame]:
        """Yield the frames of a turn as it was just returned by `Turns.start`."""
        async for frame in self._watch(call, turn, Cursor()):
            yield frame

    async def _watch(self, call: Call, turn: Turn, cursor: Cursor) -> AsyncIterator[Frame]:
        view = _View(turn.id, cursor)
        last: FrameBody | None = None
        async for frame in until_closing(call, self._frames(call, turn, view)):
            last = frame.body
            yield frame
        if not isinstance(last, Ended) and call.closing:
            yield view.frame(Reconnect(call.closing.reason.lower()))

    async def _frames(self, call: Call, turn: Turn, view: _View) -> AsyncIterator[Frame]:
        with self._live.watching(turn.id) as channel:
            yield view.frame(Began(turn))
            if turn.state is TurnState.WAITING:
                turn = await self._begun(call, channel, turn)
                yield view.frame(Began(turn))
            version = channel.stored_version
            if not turn.ended and not turn.usage.model_calls:  # nothing is stored but the request
                async for frame in self._partial(channel, view, version):
                    yield frame
            after = view.cursor.sequence - 1  # what was told last, from which the view goes on
            while True:
                version = channel.stored_version
                turn, messages = await self._news(call, channel, turn.id, after)
                for message in messages:
                    for frame in view.take(message):
                        yield frame
                after = view.cursor.sequence
                if turn.ended:
                    for frame in view.end(turn):
                        yield frame
                    return
                async for frame in self._partial(channel, view, version):
                    yield frame

    async def _begun(self, call: Call, channel: Channel, turn: Turn) -> Turn:
        """Return a turn once it waits no more: others' news of that, its text, or a look."""
        while True:
            text_version, version = channel.text_version, channel.stored_version
            turn = await self._turns.get(call, turn.id)
            if turn.state is not TurnState.WAITING:
                return turn
            await channel.news(text_version, version, _poll(channel))

    async def _news(
        self, call: Call, channel: Channel, turn_id: str, after: int
    ) -> tuple[Turn, list[Message]]:
        """Return the turn and its messages above a sequence; what runs here need not be read."""
        if channel.known is not None:
            return channel.known.turn, channel.known.after(after)
        return await self._read(call, turn_id, after)

    async def _read(self, call: Call, turn_id: str, after: int) -> tuple[Turn, list[Message]]:
        async with self._db.transaction(call) as tx:
            turn = await self._rows.turns.get(tx, turn_id)
            return turn, await self._rows.messages.of_turn(tx, turn_id, after=after)

    async def _partial(
        self, channel: Channel, view: _View, stored_version: int
    ) -> AsyncIterator[Frame]:
        """Yield text that is being written, until more is stored or it is time to ask Postgres."""
        until = time.monotonic() + _poll(channel)
        pause = between_deltas(self._live.busy)
        while channel.stored_version == stored_version and time.monotonic() < until:
            if view.behind(channel):
                return
            text_version = channel.text_version
            sent = False
            for frame in view.follow(channel):
                sent = True
                yield frame
            if sent:
                await channel.stored_news(stored_version, pause)
            await channel.news(text_version, stored_version, until - time.monotonic())

    async def ended(self, call: Call, turn: Turn, seconds: float) -> Turn:
        """Return the turn once it has ended, or as it is when the time (seconds) is over."""
        until = time.monotonic() + seconds
        with self._live.watching(turn.id) as channel:
            version = channel.stored_version
            while not turn.ended and (left := until - time.monotonic()) > 0:
                await channel.stored_news(version, min(left, _poll(channel)))
                version = channel.stored_version  # before reading, so that nothing is missed
                known = channel.known
                turn = known.turn if known else await self._turns.get(call, turn.id)
        return turn


def between_deltas(turns: int) -> float:
    """Return the seconds between two pieces of a text: more where there are many turns.

    A piece costs much more than the text in it. The first one never waits.
    """
    share = min(1.0, turns / _CROWD)
    return _LEAST_BETWEEN_DELTAS + share * (_MOST_BETWEEN_DELTAS - _LEAST_BETWEEN_DELTAS)


def _poll(channel: Channel) -> float:
    return _POLL_WHERE_IT_RUNS if channel.runs_here else _POLL


class _View:
    """What one watcher was sent."""

    def __init__(self, turn_id: str, cursor: Cursor) -> None:
        self.turn_id = turn_id
        self.cursor = cursor
        self._told: tuple[int, int] = (0, 0)  # a step, and how many activities of it
        self._heard: dict[str, tuple[int, int]] = {}  # of calls: attempt and end of its output
        self._results_to_come = False  # of the last step
        self._over = 0  # the last step of which the results were told

    def frame(self, body: FrameBody) -> Frame:
        """Return a frame with the cursor as it is now."""
        return Frame(self.cursor.encode(self.turn_id), body)

    def take(self, message: Message) -> Iterator[Frame]:
        """Yield the frames of a stored message, the rest of its text before it.

        None of one that was told before the cursor was given.
        """
        told = message.sequence <= self.cursor.sequence
        self._over = message.step if message.role is Role.TOOL else self._over
        self._results_to_come = bool(message.tool_calls)
        if told:
            return
        if message.role is Role.USER:  # the request; text of the first step may be under way
            self.cursor = replace(self.cursor, sequence=message.sequence)
            return
        if message.role is Role.ASSISTANT:
            yield from self._turn_to(message.step, message.generation)
            yield from self._send(message.text.encode())
        if message.step < self.cursor.step:  # results; text of the next step is under way
            self.cursor = replace(self.cursor, sequence=message.sequence)
        else:
            self.cursor = Cursor(message.sequence, message.step)
        yield self.frame(Stored(message))

    def behind(self, channel: Channel) -> bool:
        """Tell whether the next step is being written before the results of the last were told."""
        partial = channel.partial
        return self._results_to_come and partial is not None and partial.step > self.cursor.step

    def follow(self, channel: Channel) -> Iterator[Frame]:
        """Yield the frames of the text that is being written, if it is that of the next step.

        Before them what the tools do and tell, if they are those of the last step.
        """
        yield from self._activities(channel)
        partial = channel.partial
        if partial is None or partial.step != self.cursor.step + (not self.cursor.generation):
            return
        if self.behind(channel):  # the results came while activities were sent
            return
        yield from self._turn_to(partial.step, partial.generation)
        yield from self._send(partial.text)

    def _activities(self, channel: Channel) -> Iterator[Frame]:
        step, told = self._told if self._told[0] == self.cursor.step else (self.cursor.step, 0)
        if self.cursor.generation or self._over >= step:
            return
        if channel.activities and channel.activities[0].step == step:
            for place, activity in enumerate(channel.activities[told:], told + 1):
                self._told = (step, place)  # more may come while this one is sent
                if activity.doing is Doing.FINISHED:
                    yield from self._output(channel, step, activity.call_id)
                yield self.frame(activity)
        for call_id in list(channel.outputs):
            yield from self._output(channel, step, call_id)

    def _output(self, channel: Channel, step: int, call_id: str) -> Iterator[Frame]:
        """Yield what is kept of a call's output and was not told yet."""
        latest = channel.outputs.get(call_id)
        heard = self._heard.get(call_id, (0, 0))
        if latest is None or latest.of.step != step or latest.of.attempt < heard[0]:
            return
        if piece := latest.after(*heard):
            self._heard[call_id] = (piece.attempt, piece.offset + len(piece.text))
            yield self.frame(piece)

    def end(self, turn: Turn) -> Iterator[Frame]:
        """Yield the last frames; text of a step that was never stored does not count."""
        if self.cursor.sent:
            yield from self._withdraw()
        yield self.frame(Ended(turn))

    def _turn_to(self, step: int, generation: str) -> Iterator[Frame]:
        """Go to an attempt at a step; what was sent of another attempt is withdrawn."""
        if (self.cursor.step, self.cursor.generation) == (step, generation):
            return
        if self.cursor.sent:
            yield from self._withdraw()
        self.cursor = Cursor(self.cursor.sequence, step, generation)

    def _withdraw(self) -> Iterator[Frame]:
        step = self.cursor.step
        self.cursor = Cursor(self.cursor.sequence, step - 1)
        yield self.frame(Withdrawn(step))

    def _send(self, text: bytes | bytearray) -> Iterator[Frame]:
        """Yield what was not sent of an attempt's text; pieces end between characters."""
        cursor, size = self.cursor, len(text)  # it may grow meanwhile: that is the next piece's
        while cursor.sent < size:
            end = _border(text, min(size, cursor.sent + _LONGEST_DELTA))
            try:
                piece = text[cursor.sent : end].decode()
            except UnicodeDecodeError as error:
                raise BadCursor("the cursor is inside a character") from error
            offset = cursor.sent
            cursor = Cursor(cursor.sequence, cursor.step, cursor.generation, end)
            self.cursor = cursor
            yield self.frame(Delta(cursor.step, offset, piece))


def _border(text: bytes | bytearray, end: int) -> int:
    """Return the last place at or before `end` that is not inside a character."""
    while end < len(text) and text[end] & 0xC0 == 0x80:  # noqa: PLR2004 (UTF-8's continuation)
        end -= 1
    return end
