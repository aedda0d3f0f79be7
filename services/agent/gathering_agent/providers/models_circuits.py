"""Circuits: what is known of providers and models that keep failing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CircuitState(StrEnum):
    """CLOSED, OPEN when it failed too often, HALF_OPEN for one call that tries, CLOSED again."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """A circuit as it was read at `read`, a moment of this process's monotonic clock.

    `failures` in a row; `opens_in`: seconds until a call may try, None where it is closed;
    `tried_for`: seconds that another replica's call has to try, at most 0 where there is none.
    """

    name: str
    failures: int = 0
    opens_in: float | None = None
    tried_for: float = 0.0
    reason: str = ""
    failure_time: datetime | None = None
    read: float = 0.0

    @property
    def open(self) -> bool:
        """Tell whether not every call is let through."""
        return self.opens_in is not None

    def blocked(self, now: float) -> float:
        """Return the seconds for which no call is let through; at most 0 where one may try."""
        if self.opens_in is None:
            return 0.0
        return max(self.opens_in, self.tried_for) - (now - self.read)

    def state(self, now: float) -> CircuitState:
        """Return the state at a moment of the monotonic clock."""
        if self.opens_in is None:
            return CircuitState.CLOSED
        passed = now - self.read
        return CircuitState.OPEN if self.opens_in > passed else CircuitState.HALF_OPEN


@dataclass(frozen=True, slots=True)
class CircuitTerms:
    """When a circuit opens and for how long. Times in seconds.

    `window`: failures further apart are not in a row. `probe`: so long a call may try alone; then
    another may. `longest`: the most that a provider's own Retry-After keeps it open.
    """

    failures: int = 5
    open: float = 10.0
    window: float = 60.0
    probe: float = 30.0
    longest: float = 60.0
