"""Make foreign text and JSON fit for the database and for UTF-8."""

from __future__ import annotations

import math

from gathering_agent.models import JsonObject, JsonValue

_DEEPEST = 18  # levels; the services take 20


def clean_text(text: str) -> str:
    """Replace what Postgres or UTF-8 cannot hold: NUL and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def clean_json(value: JsonValue, depth: int = 0) -> JsonValue:
    """Return a value with clean texts and finite numbers; ValueError where it is too deep."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [clean_json(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): clean_json(inner, depth + 1) for key, inner in value.items()}
    return value


def clean_object(value: JsonObject) -> JsonObject:
    """Return an object with clean texts and finite numbers; ValueError where it is too deep."""
    return {clean_text(key): clean_json(inner, 1) for key, inner in value.items()}


def shortened(text: str, limit: int) -> str:
    """Return a text of at most about `limit` characters that says what was left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[{len(text) - limit} characters left out]"
