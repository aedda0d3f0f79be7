"""The frames of a turn's stream, and the cursor that says how much of it was seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gathering_agent.errors import BadCursor
from gathering_agent.models import Message, Turn

_FORM = re.compile(r"([0-9a-f]{8})\.(\d{1,12})\.(\d{1,9})\.(\d{1,19}-\d{1,9})?\.(\d{1,12})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """How much of a turn's stream was seen.

    `sequence` is that of the last stored message; beyond it `sent` bytes of the text of `step` as
    the attempt `generation` wrote it.
    """

    sequence: int = 0
    step: int = 0
    generation: str = ""
    sent: int = 0

    def encode(self, turn_id: str) -> str:
        """Return the cursor as text that fits this turn only."""
        return f"{turn_id[-8:]}.{self.sequence}.{self.step}.{self.generation}.{self.sent}"

    @classmethod
    def decode(cls, turn_id: str, text: str) -> Cursor:
        """Read a cursor of this turn; empty: the beginning. BadCursor."""
        if not text:
            return cls()
        found = _FORM.fullmatch(text)
        if found is None or found[1] != turn_id[-8:]:
            raise BadCursor("the cursor is not one of this turn", fields={"after": "unknown"})
        sequence, step, generation, sent = found[2], found[3], found[4] or "", found[5]
        return cls(int(sequence), int(step), generation, int(sent))


@dataclass(frozen=True, slots=True)
class Began:
    """The turn as it stood when the stream began."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of a step's text; `offset` in bytes of UTF-8."""

    step: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a step on its way to the watchers of other replicas; `offset` in bytes of UTF-8."""

    turn_id: str
    step: int
    generation: str
    offset: int
    text: bytes


def generation_order(step: int, generation: str) -> tuple[int, int, int]:
    """Return what orders the attempts of a turn: its step, then fence and try."""
    fence, _, attempt = generation.partition("-")
    return step, int(fence), int(attempt)


class Doing(StrEnum):
    """What a tool call is doing."""

    STARTED = "started"
    FINISHED = "finished"
    AWAITS_APPROVAL = "awaits_approval"


@dataclass(frozen=True, slots=True)
class Activity:
    """What a tool call of a step is doing, told to those who watch just now."""

    step: int
    call_id: str
    tool: str
    doing: Doing
    execution_id: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a tool call tells as it runs, told to those who watch just now.

    `offset` in bytes of UTF-8 in what this attempt at the execution told; earlier ones are void.
    """

    step: int
    call_id: str
    execution_id: str
    attempt: int
    offset: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was sent of this step's text does not count."""

    step: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A step's message, or the results of its tool calls, is stored."""

    message: Message


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over; the last frame."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The stream ends, the turn goes on; the last frame."""

    reason: str


FrameBody: TypeAlias = Began | Delta | Withdrawn | Stored | Activity | Output | Ended | Reconnect


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, and the cursor that resumes after it."""

    cursor: str
    body: FrameBody
