"""How a turn goes on in a session that rested: what is told of the pause, and how much of before.

It follows from what is stored alone, so that a replica that takes a turn over tells the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gathering_agent.context.models import Strategy
from gathering_agent.models import Message

RESTED = timedelta(hours=1)  # a shorter pause is none
_DAY = timedelta(days=1)
# Of the room for the dialogue: what was said before a rest is shown whole if it takes no more.
_SHARE_OF_HOURS, _SHARE_OF_DAYS = 2, 4


@dataclass(frozen=True, slots=True)
class Pause:
    """The time between the last message before a turn and its request."""

    since: datetime
    length: timedelta

    @property
    def words(self) -> str:
        """Tell how long it was: in days, or in hours."""
        unit, name = (_DAY, "day") if self.length >= _DAY else (RESTED, "hour")
        count = self.length // unit
        return f"{count} {name}{'s' if count > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A strategy for the messages before a place, and why."""

    strategy: Strategy
    reason: str
    before: int = 0


def pause_before(history: Sequence[Message], turn_id: str) -> Pause | None:
    """Return the pause before a turn, None where there was none worth telling."""
    first = next((n for n, message in enumerate(history) if message.turn_id == turn_id), 0)
    return _pause(history, first)


def _pause(history: Sequence[Message], place: int) -> Pause | None:
    if not place:
        return None
    since, now = history[place - 1].create_time, history[place].create_time
    if since is None or now is None or now - since < RESTED:
        return None
    return Pause(since, now - since)


def chosen(
    asked: Strategy,
    history: Sequence[Message],
    first: int,
    sizes: Sequence[int],
    room: int,
    *,
    unfinished: bool,
) -> Chosen:
    """Return how much is shown of what was said before a turn, which begins at place `first`.

    `sizes`: tokens of each message before it; `room`: for all of them. What is asked for holds for
    all of them; without that (AUTO) it is chosen by the last rest, for what was said before that.
    """
    if asked is not Strategy.AUTO:
        return Chosen(asked, "asked for", first)
    place = next((n for n in range(first, 0, -1) if _pause(history, n) is not None), 0)
    pause = _pause(history, place)
    if pause is None:
        return Chosen(Strategy.FULL, "the conversation did not rest for an hour")
    share = _SHARE_OF_DAYS if pause.length >= _DAY else _SHARE_OF_HOURS
    rested = f"the conversation rested for {pause.words}"
    if sum(sizes[:place]) * share <= room:
        return Chosen(Strategy.FULL, f"{rested}; what was before takes 1/{share} of the room")
    if pause.length >= _DAY and unfinished:
        return Chosen(Strategy.TASK_FOCUSED, f"{rested} with work unfinished", place)
    return Chosen(Strategy.SUMMARY, f"{rested}; what was before is long", place)
