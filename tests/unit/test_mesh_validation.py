"""Bounds of the contract, checked on messages."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from gathering_mesh.errors import InvalidArgument
from gathering_mesh.options import ContractError
from gathering_mesh.validation import MAX_JSON_DEPTH, MAX_VIOLATIONS, Validator
from tests.support.probe import contract, message, request

CIRCLE = "crc_" + "0" * 32


def problems(what: Any) -> dict[str, str]:
    """Return the violations of a message by path."""
    try:
        Validator().check(what)
    except InvalidArgument as error:
        assert error.reason == "INVALID_FIELD"
        return dict(error.fields)
    return {}


def nested(levels: int) -> struct_pb2.Struct:
    """Return a Struct of that depth."""
    top = struct_pb2.Struct()
    inner = top
    for _ in range(levels - 1):
        inner = inner.fields["a"].struct_value
    inner.fields["a"].bool_value = True
    return top


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"text": "x" * 40},
        {"text": "ü" * 40},
        {"code": "abc"},
        {"tags": ["abcde"] * 3},
        {"share": 0.0},
        {"share": 1.0},
        {"page_size": 200},
        {"colour": 1},
        {"inner": {"circle_id": CIRCLE, "next": {"circle_id": CIRCLE}}},
        {"labels": {"a": "12345"}},
        {"inner_by_name": {"a": {"circle_id": CIRCLE}}},
        {"arguments": nested(MAX_JSON_DEPTH)},
        {"patience": {"seconds": 60}},
        {"due_time": {"seconds": 0}},
        {"left": "abc"},
        {"right": {"circle_id": CIRCLE}},
    ],
)
def test_message_within_bounds_passes(fields: dict[str, Any]) -> None:
    assert problems(request(**fields)) == {}


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"text": ""}, "text", "is required"),
        ({"text": "x" * 41}, "text", "has 41 characters; at most 40 are allowed"),
        ({"plain": "a\0b"}, "plain", "NUL"),
        ({"code": "ab"}, "code", "has 2 characters; at least 3 are needed"),
        ({"code": "abc\n"}, "code", "must match [a-z]+"),
        ({"blob": b"x" * 10_000_001}, "blob", "at most 10000000 are allowed"),
        ({"tags": ["a"] * 4}, "tags", "has 4 entries; at most 3 are allowed"),
        ({"tags": ["a", "bbbbbb"]}, "tags[1]", "has 6 characters; at most 5 are allowed"),
        ({"share": 1.1}, "share", "must be at most 1"),
        ({"share": -0.1}, "share", "must be at least 0"),
        ({"share": math.nan}, "share", "must be at least 0"),
        ({"page_size": 201}, "page_size", "must be at most 200"),
        ({"page_size": -1}, "page_size", "must be at least 0"),
        ({"colour": 7}, "colour", "7 is no value of Colour"),
        ({"colours": [1, 9]}, "colours[1]", "9 is no value of Colour"),
        ({"colours": [1, 1, 1]}, "colours", "has 3 entries"),
        ({"inner": {}}, "inner.circle_id", "is required"),
        ({"inner": {"circle_id": "agt_" + "0" * 32}}, "inner.circle_id", "must be crc_ and 32"),
        (
            {"inner": {"circle_id": CIRCLE, "next": {"circle_id": CIRCLE + "0"}}},
            "inner.next.circle_id",
            "must be crc_",
        ),
        ({"inners": [{"circle_id": CIRCLE}, {}]}, "inners[1].circle_id", "is required"),
        ({"labels": {"a": "123456"}}, 'labels["a"]', "has 6 characters"),
        ({"labels": {"a": "1", "b": "2", "c": "3"}}, "labels", "has 3 entries"),
        ({"labels": {"a\0": "1"}}, 'labels["a?"]', "key"),
        ({"inner_by_name": {"x": {}}}, 'inner_by_name["x"].circle_id', "is required"),
        ({"patience": {"nanos": 5}}, "patience", "must be at least 1 seconds"),
        ({"patience": {"seconds": 61}}, "patience", "must be at most 60 seconds"),
        ({"patience": {"seconds": 5, "nanos": -1}}, "patience", "must be a duration"),
        ({"due_time": {"seconds": 10**15}}, "due_time", "must be a time of the years"),
        ({"due_time": {"nanos": -1}}, "due_time", "must be a time of the years"),
        ({"left": "abcd"}, "left", "has 4 characters"),
        ({"right": {}}, "right.circle_id", "is required"),
    ],
)
def test_value_outside_its_bound_is_told_by_path_and_in_words(
    fields: dict[str, Any], path: str, words: str
) -> None:
    found = problems(request(**fields))
    assert list(found) == [path]
    assert words in found[path]


def test_json_that_is_too_deep_is_refused() -> None:
    found = problems(request(arguments=nested(MAX_JSON_DEPTH + 1)))
    assert "is nested deeper than" in next(iter(found.values()))


def test_json_lists_that_are_too_deep_are_refused() -> None:
    top = struct_pb2.Struct()
    inner = top.fields["a"]
    for _ in range(MAX_JSON_DEPTH + 1):
        inner = inner.list_value.values.add()
    found = problems(request(arguments=top))
    assert "is nested deeper than" in next(iter(found.values()))


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ({"a": [1, {"b": "x\0"}]}, "arguments.a[1].b", "NUL"),
        ({"a\0b": 1}, "arguments", "NUL"),
        ({"a": math.inf}, "arguments.a", "finite"),
        ({"a": math.nan}, "arguments.a", "finite"),
    ],
)
def test_json_that_cannot_be_stored_is_refused(
    value: dict[str, Any], path: str, words: str
) -> None:
    arguments = struct_pb2.Struct()
    arguments.update(value)
    found = problems(request(arguments=arguments))
    assert words in found[path]


def test_all_wrong_fields_are_reported_at_once() -> None:
    found = problems(request(text="", page_size=-1, colour=5))
    assert set(found) == {"text", "page_size", "colour"}


def test_number_of_reported_fields_is_bounded() -> None:
    assert len(problems(request(inners=[{}] * 1000))) == MAX_VIOLATIONS


@pytest.mark.parametrize("name", ["Misplaced", "Untellable", "BadPattern"])
def test_bound_that_does_not_fit_its_field_is_refused_before_serving(name: str) -> None:
    with pytest.raises(ContractError):
        Validator().prepare(contract().message_types_by_name[name])


@given(st.binary(max_size=200))
def test_any_message_that_parses_is_checked_without_a_fault(data: bytes) -> None:
    what = message("EchoRequest")()
    try:
        what.ParseFromString(data)
    except Exception:  # the parser's own affair here
        return
    problems(what)
