"""What a tool tells as it runs, and parts of it. All places and sizes are in bytes of UTF-8."""

from __future__ import annotations

from dataclasses import dataclass

PIECE_BYTES = 32 * 1024  # that are kept as one at most
_CONTINUES = 0x80  # the upper two bits of a byte that is not the first of its character


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader is in what an attempt told; attempt 0: the last one."""

    attempt: int = 0
    offset: int = 0

    def in_attempt(self, attempt: int) -> Place:
        """Return the place in an attempt; of a later one the beginning."""
        return Place(attempt, self.offset if self.attempt in {0, attempt} else 0)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of what was told; `cut`: it is the last, and there was more."""

    offset: int
    content: bytes
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Text that an attempt told, and where it begins in all that it told."""

    attempt: int
    offset: int
    text: str

    @property
    def end(self) -> Place:
        """Return where the next begins."""
        return Place(self.attempt, self.offset + len(self.text.encode()))


@dataclass(frozen=True, slots=True)
class OutputPart:
    """A part, and what is known of the whole; `complete`: the execution has ended."""

    output: Output
    total: int
    complete: bool
    cut: bool


def border(content: bytes | bytearray, end: int) -> int:
    """Return the last place at or before `end` that is not inside a character."""
    while 0 < end < len(content) and content[end] & 0xC0 == _CONTINUES:
        end -= 1
    return end


def is_inside(content: bytes) -> bool:
    """Tell whether a text that was cut somewhere begins inside a character."""
    return bool(content) and content[0] & 0xC0 == _CONTINUES
