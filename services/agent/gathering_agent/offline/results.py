"""Bring a result into the form that a turn asks for."""

from __future__ import annotations

from gathering_agent.models import JsonObject, JsonValue


def fitted(schema: JsonObject | None, known: JsonObject, summary: str) -> JsonObject:
    """Return what is known under the names of a schema; what it requires beyond gets the summary.

    A schema of another kind than the tasks' is met as far as rules can: texts get the summary,
    lists stay empty, a choice gets its first value.
    """
    properties = schema.get("properties") if schema else None
    if not isinstance(properties, dict):
        return known
    result = {name: known[name] for name in properties if name in known}
    required = schema.get("required") if schema else None
    for name in required if isinstance(required, list) else []:
        if isinstance(name, str) and name not in result:
            result[name] = _any(properties.get(name), summary)
    return result


def _any(schema: JsonValue, summary: str) -> JsonValue:
    if not isinstance(schema, dict):
        return summary
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    kind = schema.get("type")
    plain: dict[str, JsonValue] = {
        "array": [],
        "boolean": False,
        "integer": 0,
        "null": None,
        "number": 0,
        "object": {},
    }
    return plain.get(kind, summary) if isinstance(kind, str) else summary
