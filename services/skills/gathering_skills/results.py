"""Keep results within a bound, and say what was cut."""

from __future__ import annotations

import json
from typing import Any

from gathering_skills.models import Json, JsonObject

RESULT_BYTES = 64 * 1024
CUT = "cut"  # the field that tells what is missing
_MOST_CUTS = 60
_ROOM = 512  # for what is said about the cuts


def size_of(value: Json) -> int:
    """Return the bytes of a value as JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def bounded(result: JsonObject, limit: int = RESULT_BYTES) -> JsonObject:
    """Return a result of at most so many bytes of JSON.

    Tools bound their lists and texts by themselves and tell how to get the rest; this is the last
    line. The longest list or text is halved until all fits, and `cut` tells of each which part is
    left.
    """
    full = size_of(result)
    if full <= limit:
        return result
    copy: dict[str, Any] = json.loads(json.dumps(result))
    cuts: dict[str, dict[str, int]] = {}
    for _ in range(_MOST_CUTS):
        if size_of(copy) + size_of(cuts) <= limit - _ROOM:
            break
        _halve_largest(copy, cuts)
    else:
        copy, cuts = {}, {}
    parts = [{"field": path, **numbers} for path, numbers in cuts.items()]
    return {
        **copy,
        CUT: {
            "message": f"The result had {full} bytes and was cut; ask for less at a time.",
            "full_bytes": full,
            "parts": parts,
        },
    }


def _halve_largest(copy: dict[str, Any], cuts: dict[str, dict[str, int]]) -> None:
    holder, key, path = _largest(copy)
    if holder is None:
        copy.clear()
        return
    value = holder[key]
    kept = len(value) // 2
    holder[key] = value[:kept]
    first = cuts.get(path, {"of": len(value)})
    cuts[path] = {"kept": kept, "of": first["of"]}


def _largest(value: Any) -> tuple[Any, Any, str]:
    """Return where the longest list or text stands: what holds it, its key, its path."""
    best: tuple[int, Any, Any, str] = (0, None, None, "")
    pending: list[tuple[Any, str]] = [(value, "")]
    while pending:
        holder, path = pending.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, item in items:
            where = f"{path}.{key}" if path else str(key)
            if isinstance(item, dict | list):
                pending.append((item, where))
            if isinstance(item, list | str) and len(item) > 1:
                best = max(best, (size_of(item), holder, key, where), key=lambda b: b[0])
    return best[1:]
