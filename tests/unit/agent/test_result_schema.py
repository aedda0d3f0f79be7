"""Schemas of results: none that takes for ever to check."""

import pytest

from gathering_agent.errors import BadResultSchema
from gathering_agent.models import JsonObject
from gathering_agent.turns.result_schema import check_schema

SLOW: JsonObject = {"pattern": "(a+)+$"}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"x": SLOW}},
        {"properties": {"properties": {"properties": {"default": SLOW}}}},
        {"dependentSchemas": {"default": {"properties": {"x": SLOW}}}},
        {"dependentSchemas": {"enum": SLOW}},
        {"$defs": {"const": SLOW}},
        {"allOf": [{"not": SLOW}]},
        {"patternProperties": {"(a+)+$": {}}},
    ],
)
def test_patterns_are_refused_wherever_they_stand(schema: JsonObject) -> None:
    with pytest.raises(BadResultSchema):
        check_schema({"type": "object", **schema})


def test_properties_may_be_named_like_keywords() -> None:
    schema: JsonObject = {"pattern": {"type": "string"}, "default": {"type": "number"}}
    check_schema({"type": "object", "properties": schema})
    check_schema({"type": "object", "default": {"pattern": "a"}})
