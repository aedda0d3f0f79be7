"""Turns that wait for their session: one after the other, in the order in which they were stored.

A session has one live turn and, behind it, those that wait. Whoever ends the live one begins the
next in the same transaction, so that no death in between leaves a session standing still. Each has
its row of work from the start: looked at now and then while it waits, due at once when its time has
come. Locks are taken in this order: the ending turn's work, the session, the next turn's work, the
next turn; so an end that begins nothing (of a turn that waits) locks no session.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gathering_agent.errors import SessionQueueFull
from gathering_agent.models import Message, Turn, TurnState
from gathering_agent.ports import Rows
from gathering_mesh.postgres import Transaction

RUN = "turn"  # the kind of work
_LOOK = timedelta(minutes=1)


class Queue:
    """The turns that wait behind the live one of their session; at most `longest`."""

    def __init__(self, rows: Rows, longest: int) -> None:
        self._rows = rows
        self._longest = longest

    async def enter(self, tx: Transaction, turn: Turn, request: Message) -> Turn:
        """Store a turn behind those that wait, with what was said; SessionQueueFull.

        The caller has locked the session.
        """
        waiting = await self._rows.queue.waiting(tx, turn.session_id)
        if len(waiting) >= self._longest:
            raise SessionQueueFull(self._longest)
        place = waiting[-1][1] + 1 if waiting else 1
        turn = replace(turn, state=TurnState.WAITING, place=place)
        await self._rows.turns.insert(tx, turn)
        await self._rows.queue.keep(tx, request)
        await tx.schedule(RUN, turn.id, next_look(turn))
        return turn

    async def end(self, tx: Transaction, turn: Turn) -> None:
        """Store the end of a live turn, whose session is locked; the next begins with it."""
        if await self._rows.turns.update(tx, turn):
            await self._admit(tx, turn.session_id)

    async def close(self, tx: Transaction, turn: Turn, ended: Turn) -> None:
        """Store the end of a turn, which was locked as `turn`, whether it waits or lives."""
        if turn.state is TurnState.WAITING:
            await self._rows.turns.update(tx, ended)
            await self._rows.queue.drop(tx, turn.id)
        else:
            await self._rows.queue.hold(tx, turn.session_id)
            await self.end(tx, ended)

    async def relieve(self, tx: Transaction, session_id: str) -> None:
        """Let the next turn begin where none lives: a release that knew no queue ended it."""
        await self._rows.queue.hold(tx, session_id)
        if not await self._rows.turns.live(tx, session_id):
            await self._admit(tx, session_id)

    async def _admit(self, tx: Transaction, session_id: str) -> None:
        for turn_id, _ in await self._rows.queue.waiting(tx, session_id):
            await tx.schedule(RUN, turn_id)
            turn = await self._rows.turns.get(tx, turn_id, lock=True)
            if turn.state is TurnState.WAITING:
                turn = replace(turn, state=TurnState.QUEUED, start_time=datetime.now(UTC))
                await self._rows.turns.update(tx, turn)
                await self._rows.queue.place(tx, turn_id)
                return
            await tx.unschedule(RUN, turn_id)  # it was cancelled while this waited for its lock


def next_look(turn: Turn) -> timedelta:
    """Return after what time somebody looks at a turn that waits: if it still has to, or may."""
    if turn.deadline is None:
        return _LOOK
    return max(timedelta(0), min(_LOOK, turn.deadline - datetime.now(UTC)))
