"""Cursors of the feed: a place for each source, as text that only this module reads."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Collection, Mapping

from gathering_gateway.errors import InvalidCursor
from gathering_gateway.models_feed import Place

FROM_START = "start"
_VERSION = 1
_LARGEST = 2**63 - 1
_EPOCH = re.compile(r"[0-9A-Za-z-]{0,64}")


def encode(places: Mapping[str, Place]) -> str:
    """Return the cursor of these places."""
    return _encode(tuple(places.items()))


# Subscribers who follow the same logs come through the same places, one right after the other.
@functools.lru_cache(maxsize=256)
def _encode(places: tuple[tuple[str, Place], ...]) -> str:
    packed = {name: list(place) if place.since else list(place[:2]) for name, place in places}
    text = json.dumps({"v": _VERSION, "p": packed}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, sources: Collection[str]) -> dict[str, Place]:
    """Return the places of a cursor. InvalidCursor where it is none of ours."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        document = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidCursor("cannot be read") from error
    if not isinstance(document, dict) or not isinstance(document.get("p"), dict):
        raise InvalidCursor("cannot be read")
    if document.get("v") != _VERSION:
        raise InvalidCursor("is of another version")
    return {name: _place(name, value, sources) for name, value in document["p"].items()}


def _place(name: str, value: object, sources: Collection[str]) -> Place:
    if name not in sources:
        raise InvalidCursor("names an unknown source")
    if isinstance(value, list) and any(isinstance(part, bool) for part in value):
        raise InvalidCursor("cannot be read")  # Python takes them for numbers
    match value:
        case [str(epoch), int(position)]:
            place = Place(epoch, position)
        case [str(epoch), int(position), int() | float() as since]:
            place = Place(epoch, position, float(since))
        case _:
            raise InvalidCursor("cannot be read")
    sane = 0 <= place.position <= _LARGEST and 0 <= place.since < _LARGEST
    if not sane or not _EPOCH.fullmatch(place.epoch):
        raise InvalidCursor("cannot be read")
    return place
