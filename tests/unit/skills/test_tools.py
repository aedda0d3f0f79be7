"""Tools made of functions: schema, check, result; results within their bound."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gathering_skills.catalogue import Catalogue
from gathering_skills.errors import ArgumentsInvalid, ToolNotFound
from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.results import RESULT_BYTES, bounded, size_of
from gathering_skills.tooling.context import Run
from gathering_skills.tooling.docstrings import described
from gathering_skills.tooling.tool import Result, Skill, Tool, ToolDeclarationError, tool
from gathering_skills.tools.standard import SKILLS


class Greeting(Result):
    """What is said."""

    text: str
    title: str = ""


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=3)
async def greet(run: Run, name: str, times: int = 1, title: str = "") -> Greeting:
    """Greet somebody.

    More than once,
    if wished.

    Args:
        name: Who is greeted,
            in full.
        times: How often.
        title: Of the person.
    """
    return Greeting(text=f"Hello {name}! " * times, title=title)


def all_tools() -> list[Tool]:
    """Return the tools of the house."""
    return [made for skill in SKILLS for made in skill.tools]


def test_schema_comes_from_signature_and_docstring() -> None:
    schema = greet.spec.arguments_schema
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["name"] == {
        "type": "string",
        "description": "Who is greeted, in full.",
    }
    assert set(schema["properties"]) == {"name", "times", "title"}
    assert greet.spec.description == "Greet somebody.\nMore than once, if wished."
    assert set(greet.spec.result_schema["properties"]) == {"text", "title"}
    assert not greet.spec.needs_workspace
    assert greet.spec.timeout == 3


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, "arguments.name"),
        ({"name": 5}, "arguments.name"),
        ({"name": "x", "times": "2"}, "arguments.times"),
        ({"name": "x", "times": 1.5}, "arguments.times"),
        ({"name": "x", "times": True}, "arguments.times"),
        ({"name": "x", "nmae": "y"}, "arguments.nmae"),
        ({"name": ["x"]}, "arguments.name"),
    ],
)
def test_argument_that_does_not_fit_is_named(given: dict[str, Any], path: str) -> None:
    with pytest.raises(ArgumentsInvalid) as refused:
        greet.check(given)
    assert list(refused.value.fields) == [path]
    assert refused.value.reason == "TOOL_ARGUMENTS_INVALID"


def test_nested_argument_is_named_by_its_place() -> None:
    (search,) = [made for made in all_tools() if made.spec.name == "search_text"]
    with pytest.raises(ArgumentsInvalid) as refused:
        search.check({"pattern": "x", "include": ["*.py", 7]})
    assert list(refused.value.fields) == ["arguments.include[1]"]


async def test_null_is_as_good_as_absent_and_defaults_are_filled_in() -> None:
    checked = greet.check({"name": "Ada", "times": None})
    assert checked == {"name": "Ada", "times": 1, "title": ""}

    async def hold() -> None:
        return None

    async def tell(text: str) -> None:
        return None

    assert await greet.run(Run("exe_1", 1, hold, tell), checked) == {
        "text": "Hello Ada! ",
        "title": "",
    }


def test_function_that_says_too_little_is_no_tool() -> None:
    async def no_result(run: Run):  # type: ignore[no-untyped-def]
        """Do."""

    async def not_described(run: Run, name: str) -> Greeting:
        """Do."""
        return Greeting(text=name)

    async def no_context(name: str) -> Greeting:
        """Do."""
        return Greeting(text=name)

    make = tool(permission=Permission.READ, effect=EffectClass.PURE)
    for function in (no_result, not_described, no_context):
        with pytest.raises(ToolDeclarationError):
            make(function)


def test_every_tool_says_what_a_model_needs() -> None:
    for made in all_tools():
        spec = made.spec
        assert len(spec.description) > 40, spec.name
        for name, schema in spec.arguments_schema["properties"].items():
            assert schema["description"].endswith("."), (spec.name, name)
        text = json.dumps([spec.arguments_schema, spec.result_schema])
        assert "$ref" not in json.dumps(spec.arguments_schema)
        assert len(text) < 8_000
        effects = {Permission.WRITE, Permission.DELETE}
        assert bool(spec.written_paths) == (spec.permission in effects)


def test_names_of_tools_are_unique_over_all_skills() -> None:
    with pytest.raises(ValueError, match="greet"):
        Catalogue([Skill("a", "", (greet,)), Skill("b", "", (greet,))])
    with pytest.raises(ToolNotFound):
        Catalogue(SKILLS).find("greet")


def test_docstring_without_arguments_is_all_description() -> None:
    said = described("One.\n\n    Two\n    three.\n    ")
    assert (said.description, said.arguments) == ("One.\nTwo three.", {})


@pytest.mark.parametrize(
    "result",
    [
        {"text": "é" * 200_000, "rest": 1},
        {"items": [{"n": n, "text": "x" * 20} for n in range(20_000)]},
        {"deep": {"list": [["y" * 1000] * 10] * 100}},
        {str(n): "z" * 10 for n in range(20_000)},
        {"text": '"\\\n' * 100_000},
    ],
)
def test_result_is_cut_within_the_bound_and_says_so(result: dict[str, Any]) -> None:
    cut = bounded(result)
    assert size_of(cut) <= RESULT_BYTES
    told: Any = cut["cut"]
    assert told["full_bytes"] == size_of(result)
    assert "ask for less" in told["message"]


def test_small_result_is_left_alone() -> None:
    result: dict[str, Any] = {"a": [1, 2, {"b": "c"}]}
    assert bounded(result) is result
