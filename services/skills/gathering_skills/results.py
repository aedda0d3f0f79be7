"""Keep results within a bound, and say what was cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from gathering_skills.models import Json, JsonObject

RESULT_BYTES = 64 * 1024
CUT = "cut"  # the field that tells what is missing
_ROOM = 4096  # for what is said about the cuts
_MOST_PARTS = 20
_PATH_CHARS = 100


def size_of(value: Json) -> int:
    """Return the bytes of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def as_text(value: Json) -> str:
    """Return a value as JSON that people read."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def bounded(result: JsonObject, limit: int = RESULT_BYTES) -> JsonObject:
    """Return a result of at most so many bytes of JSON. Blocks for large ones.

    Tools bound their lists and texts by themselves and tell how to get the rest; this is the last
    line. Texts, lists and objects above a size are cut to it, and that size is halved until all
    fits; `cut` tells of each which part is left.
    """
    full = size_of(result)
    if full <= limit:
        return result
    cap = limit
    capped = _Capped(cap)
    copy = capped.value(result, "")
    while size_of(copy) > limit - _ROOM and cap > 1:
        cap //= 2
        capped = _Capped(cap)
        copy = capped.value(result, "")
    if size_of(copy) > limit - _ROOM:
        copy = {}
    told = {
        "message": f"The result had {full} bytes and was cut; ask for less at a time. "
        "The execution's output is whole.",
        "full_bytes": full,
        "parts": capped.parts[:_MOST_PARTS],
        "part_count": len(capped.parts),
    }
    return {**copy, CUT: told}


@dataclass
class _Capped:
    """Copies a value with texts of at most so many characters, and fewer items than that."""

    cap: int
    parts: list[dict[str, Json]] = field(default_factory=list)

    def value(self, value: Any, path: str) -> Any:
        if isinstance(value, str):
            return self._cut(value, self.cap, path)
        if isinstance(value, list | tuple):
            kept = self._cut(value, max(1, self.cap // 16), path)
            return [self.value(item, f"{path}[{n}]") for n, item in enumerate(kept)]
        if isinstance(value, dict):
            names = self._cut(list(value), max(1, self.cap // 16), path)
            return {name: self.value(value[name], f"{path}.{name}".lstrip(".")) for name in names}
        return value

    def _cut(self, value: Any, most: int, path: str) -> Any:
        if len(value) <= most:
            return value
        where = path[:_PATH_CHARS]
        self.parts.append({"field": where, "kept": most, "of": len(value)})
        return value[:most]
