"""How a turn begins in a session that rested: what the model is told of the pause.

It follows from what is stored alone, so that a replica that takes a turn over tells the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gathering_agent.models import Message

RESTED = timedelta(hours=1)  # a shorter pause is none
_DAY = timedelta(days=1)


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


def pause_before(history: Sequence[Message], turn_id: str) -> Pause | None:
    """Return the pause before a turn, None where there was none worth telling."""
    first = next((n for n, message in enumerate(history) if message.turn_id == turn_id), 0)
    if not first:
        return None
    since, now = history[first - 1].create_time, history[first].create_time
    if since is None or now is None or now - since < RESTED:
        return None
    return Pause(since, now - since)
