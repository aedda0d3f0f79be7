"""Pages by key: a token carries the last key of a page and which list it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from gathering_mesh.errors import InvalidArgument

Key = str | int | float
_FINGERPRINT_BYTES = 8
_BIGINT = 2**63


def page_size(requested: int, default: int = 50, limit: int = 200) -> int:
    """Return how many items a page has: what was asked for (0: the default), at most the limit."""
    if requested < 0:
        raise InvalidArgument(
            "page_size must not be negative", fields={"page_size": "must not be negative"}
        )
    return min(requested or default, limit)


def query_fingerprint(*parts: object) -> bytes:
    """Return what tells one list from another: the method, the tenant, the filters."""
    text = json.dumps([str(part) for part in parts])
    return hashlib.sha256(text.encode()).digest()[:_FINGERPRINT_BYTES]


def encode_token(query_fingerprint: bytes, last_key: Sequence[Key]) -> str:
    """Return the token of the page after the item with this key."""
    key = json.dumps(list(last_key), separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(query_fingerprint + key).decode().rstrip("=")


def decode_token(
    query_fingerprint: bytes, token: str, kinds: Sequence[type[Key]] = (str,)
) -> tuple[Any, ...] | None:
    """Return the key that a page comes after, None for the first page (an empty token).

    Anybody can make up a token, so the key is held to what the list's keys are: values of these
    kinds that a database takes. Raises InvalidArgument (INVALID_PAGE_TOKEN) for a token that no
    list, or another one, gave.
    """
    if not token:
        return None
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise _refused() from error
    found, key = raw[: len(query_fingerprint)], raw[len(query_fingerprint) :]
    if found != query_fingerprint:
        raise _refused()
    try:
        values = json.loads(key)
    except (ValueError, RecursionError) as error:
        raise _refused() from error
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise _refused()
    if not all(map(_is_key, values)):
        raise _refused()
    return tuple(values)


def _is_key(value: Key) -> bool:
    """Tell what a statement can take: the token was in strangers' hands."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, int):
        return -_BIGINT <= value < _BIGINT
    return math.isfinite(value)


def _refused() -> InvalidArgument:
    return InvalidArgument(
        "the page token is not one of this list",
        reason="INVALID_PAGE_TOKEN",
        fields={"page_token": "is not one of this list"},
    )
