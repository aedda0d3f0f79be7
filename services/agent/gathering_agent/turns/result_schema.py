"""The schema of a turn's result: which schemas are taken, and whether a result fits."""

from __future__ import annotations

from collections.abc import Iterator

import jsonschema
from jsonschema.validators import Draft202012Validator

from gathering_agent.errors import BadResultSchema
from gathering_agent.models import JsonObject, JsonValue, as_text

_PROBLEMS = 10  # that a model is told at once
_LARGEST = 50_000  # characters of a schema
_LONGEST = 300  # characters of one problem
# A pattern may take for ever to match, a reference may lead anywhere.
_REFUSED = frozenset({"pattern", "patternProperties", "$ref", "$dynamicRef"})
# What these hold are schemas by names of the caller's, which may be those of keywords.
_NAMED = frozenset({"properties", "dependentSchemas", "$defs", "definitions"})


def check_schema(schema: JsonObject | None) -> None:
    """Refuse (BadResultSchema) what is no JSON Schema of an object, or costs too much to check."""
    if schema is None:
        return
    if len(as_text(schema)) > _LARGEST:
        raise _bad(f"must have at most {_LARGEST} characters")
    if schema.get("type") != "object":
        raise _bad("must have the type `object`")
    for keyword in _keywords(schema):
        if keyword in _REFUSED:
            raise _bad(f"must not use `{keyword}`")
    try:
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise _bad(f"is no JSON Schema: {error.message[:_LONGEST]}") from error


def problems(schema: JsonObject, result: JsonObject) -> list[str]:
    """Return what is wrong with a result, each with its path; empty: it fits."""
    found = Draft202012Validator(schema).iter_errors(result)
    return [
        f"{error.json_path}: {error.message[:_LONGEST]}"
        for error, _ in zip(found, range(_PROBLEMS), strict=False)
    ]


def _keywords(value: JsonValue) -> Iterator[str]:
    """Yield all keys at all depths; a property that is named like a keyword is none."""
    if isinstance(value, list):
        for item in value:
            yield from _keywords(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAMED and isinstance(inner, dict):
                yield from _keywords(list(inner.values()))
            elif key not in ("const", "enum", "default", "examples"):
                yield key
                yield from _keywords(inner)


def _bad(problem: str) -> BadResultSchema:
    return BadResultSchema(f"result_schema {problem}", fields={"result_schema": problem})
