"""What was found worth remembering of a turn, and what is known already."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to remember; `text` is what is stored, `said` what it is compared by.

    `rule` says why it was found. Two with the same `about` say the same thing of two times, so that
    the later one takes the earlier one's place; empty: nobody can tell. `corrects`: the words say
    that something else was believed before. `personal`: a user told it of themselves.
    """

    text: str
    said: str
    kind: str
    importance: float
    rule: str
    about: str = ""
    corrects: bool = False
    personal: bool = True

    @property
    def tags(self) -> tuple[str, ...]:
        """Return the labels of the memory, by which a later finding knows it."""
        return (AUTOMATIC, self.rule, *([_about(self.about)] if self.about else []))


@dataclass(frozen=True, slots=True)
class KnownMemory:
    """A memory that is like a finding."""

    memory_id: str
    text: str
    tags: tuple[str, ...] = ()
    personal: bool = False

    def is_about(self, about: str) -> bool:
        """Tell whether it says the same thing, perhaps of another time."""
        return bool(about) and _about(about) in self.tags

    @property
    def automatic(self) -> bool:
        """Tell whether it was remembered by itself."""
        return AUTOMATIC in self.tags


AUTOMATIC = "auto"
_LONGEST_TAG = 64


def _about(about: str) -> str:
    return f"about:{about}"[:_LONGEST_TAG]
