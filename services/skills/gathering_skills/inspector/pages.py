"""Cut lists to what fits into a result, and tell how to get the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

LIST_BYTES = 40_000  # of JSON; a whole result has 64 KiB


def page(items: Sequence[Any], offset: int, limit: int) -> tuple[list[Any], int]:
    """Return the items from an offset on, and the offset of the rest (0: that was all)."""
    chosen: list[Any] = []
    room = LIST_BYTES
    for item in items[offset : offset + limit]:
        room -= len(json.dumps(item, ensure_ascii=False).encode()) + 1
        if room < 0 and chosen:
            break
        chosen.append(item)
    end = offset + len(chosen)
    return chosen, end if end < len(items) else 0


def rest(offset: int, shown_count: int, total: int, what: str, next_offset: int) -> str:
    """Return the remark that more can be had, empty if that was all."""
    if not next_offset:
        return ""
    first, last = offset + 1, offset + shown_count
    return f"These are {first} to {last} of {total} {what}; offset={next_offset} gives the next."


def whole(*, cut: bool) -> str:
    """Return where all is to be found of what is told as it is found; empty if nothing was cut."""
    return "The output of the execution has all of them." if cut else ""


def clipped(text: str, limit: int) -> str:
    """Return a text of at most so many characters, with an ellipsis where it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
