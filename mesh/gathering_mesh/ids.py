"""Ids: a prefix that tells the kind, and a UUIDv7 that sorts by the time of its making."""

from __future__ import annotations

import secrets
import time

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_MILLISECOND = 1_000_000  # ns


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 32 lower-case hexadecimal digits of a new UUIDv7 (RFC 9562)."""
    milliseconds, rest = divmod(time.time_ns(), _MILLISECOND)
    fraction = (rest << 12) // _MILLISECOND  # method 3: ids of one millisecond sort as well
    value = milliseconds << 80 | _VERSION | fraction << 64 | _VARIANT | secrets.randbits(62)
    return f"{prefix}_{value:032x}"
