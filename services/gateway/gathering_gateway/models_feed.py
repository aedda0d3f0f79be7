"""The feed: places in the services' logs, what is read there, what a subscriber gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from gathering_mesh.eventfilter import EventFilter


class Place(NamedTuple):
    """A place in one service's log: its history and the last entry that was passed.

    (`""`, 0) is before all that is kept. With `since` (seconds since the epoch) entries that are
    older are passed over: so begins who comes while a service's head cannot be learnt.
    """

    epoch: str
    position: int
    since: float = 0.0


START = Place("", 0)


@dataclass(slots=True, eq=False)
class Seen:
    """An event as it came, when it was committed (seconds since the epoch), and the place after.

    One for all who see it. `wire` is what the converter keeps of it for the next of them.
    """

    event: object
    time: float
    place: Place
    wire: object = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Entries that cannot be had, why (`retention` or `epoch`), and the place after them."""

    reason: str
    place: Place


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read of one log; `place` also passes what the reader must not see."""

    items: tuple[Seen | Missing, ...]
    place: Place
    more: bool  # there is more to read at once


@dataclass(frozen=True, slots=True, eq=False)
class Watcher:
    """A subscriber as the logs know it: who is woken, for what, and its place in each log.

    A log may move a place that is at its head over what the subscriber does not get.
    """

    wake: asyncio.Event
    only: EventFilter
    places: dict[str, Place]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for; empty sets ask for everything."""

    types: frozenset[str]
    subject_ids: frozenset[str]
    sources: frozenset[str]

    def seen_by(self, tenant: str, user: str, role: str) -> EventFilter:
        """Return the filter of a caller."""
        return EventFilter(
            tenant=tenant,
            user=user,
            administrator=role == "admin",
            types=self.types,
            subjects=self.subject_ids,
        )


@dataclass(frozen=True, slots=True)
class EventFrame:
    """An event."""

    seen: Seen
    cursor: str


@dataclass(frozen=True, slots=True)
class CheckpointFrame:
    """A place to resume from."""

    cursor: str


@dataclass(frozen=True, slots=True)
class GapFrame:
    """Events of a source are missing."""

    source: str
    reason: str
    cursor: str


@dataclass(frozen=True, slots=True)
class ReconnectFrame:
    """The last frame."""

    reason: str
    cursor: str


Frame = EventFrame | CheckpointFrame | GapFrame | ReconnectFrame


@dataclass(frozen=True, slots=True)
class EventPage:
    """Stored events; `end`: nothing else was stored."""

    events: tuple[EventFrame, ...]
    gaps: tuple[GapFrame, ...]
    cursor: str
    end: bool
