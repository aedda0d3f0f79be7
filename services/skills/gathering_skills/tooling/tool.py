"""Make a tool of a typed async function: its schema, its check, its run."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from gathering_skills.errors import ArgumentsInvalid
from gathering_skills.models import JsonObject
from gathering_skills.models_tools import EffectClass, Permission, SkillSpec, ToolSpec
from gathering_skills.tooling.context import Run, Workspace
from gathering_skills.tooling.docstrings import described

Function = Callable[..., Awaitable[Any]]
# Strict: a number is no text and "yes" is no boolean; unknown arguments are refused.
_STRICT = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)
_MOST_VIOLATIONS = 10


class ToolDeclarationError(TypeError):
    """A function cannot be made a tool."""


class Result(BaseModel):
    """Base of results: what a tool gives, with a description of each field."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Tool:
    """Something that can be done."""

    spec: ToolSpec
    function: Function
    arguments: type[BaseModel]
    result: TypeAdapter[Any]

    def check(self, given: JsonObject) -> JsonObject:
        """Return the arguments with defaults filled in; ArgumentsInvalid with the paths."""
        present = {name: value for name, value in given.items() if value is not None}
        try:
            return self.arguments.model_validate(present).model_dump(mode="json")
        except ValidationError as error:
            raise ArgumentsInvalid(self.spec.name, _violations(error)) from None

    async def run(self, context: Run, arguments: JsonObject) -> JsonObject:
        """Call the function with arguments that were checked; return its result as JSON."""
        values = self.arguments.model_validate(arguments)
        given = {name: getattr(values, name) for name in type(values).model_fields}
        found = await self.function(context, **given)
        return cast("JsonObject", self.result.dump_python(found, mode="json"))


@dataclass(frozen=True)
class Skill:
    """A family of tools."""

    name: str
    description: str
    tools: tuple[Tool, ...]

    @property
    def spec(self) -> SkillSpec:
        """Return what is told about it, with its tools by name."""
        specs = sorted((tool.spec for tool in self.tools), key=lambda spec: spec.name)
        return SkillSpec(self.name, self.description, tuple(specs))


def tool(
    *,
    permission: Permission,
    effect: EffectClass,
    timeout: float = 30.0,
    writes: Sequence[str] = (),
    tells: bool = False,
) -> Callable[[Function], Tool]:
    """Make a tool of `async def name(work: Workspace | Run, ...) -> Result | dict`.

    Its name, description and schema are those of the function; `writes` names the arguments that
    hold paths which it changes, for the grant's `write_paths`. `timeout` is in seconds. `tells`: it
    tells what it finds while it runs, for those who watch (`work.tell`).
    """

    def make(function: Function) -> Tool:
        signature = inspect.signature(function, eval_str=True)
        context, *parameters = signature.parameters.values()
        said = described(function.__doc__)
        arguments = _model(function.__name__, parameters, said.arguments)
        if missing := set(writes) - set(arguments.model_fields):
            raise ToolDeclarationError(f"{function.__name__} has no argument {sorted(missing)}")
        result = _result(function.__name__, signature.return_annotation)
        spec = ToolSpec(
            name=function.__name__,
            description=said.description,
            arguments_schema=_plain(arguments.model_json_schema()),
            result_schema=_plain(result.json_schema(mode="serialization")),
            permission=permission,
            effect=effect,
            needs_workspace=_needs_workspace(function.__name__, context.annotation),
            timeout=timeout,
            written_paths=tuple(writes),
            tells=tells,
        )
        return Tool(spec, function, arguments, result)

    return make


def _model(
    name: str, parameters: Sequence[inspect.Parameter], said: Mapping[str, str]
) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.name not in said:
            raise ToolDeclarationError(f"{name}: the docstring does not describe {parameter.name}")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        kind: Any = parameter.annotation
        fields[parameter.name] = (Annotated[kind, Field(description=said[parameter.name])], default)
    made: type[BaseModel] = create_model(name, __config__=_STRICT, **fields)
    return made


def _result(name: str, annotation: Any) -> TypeAdapter[Any]:
    if annotation in {inspect.Signature.empty, None}:
        raise ToolDeclarationError(f"{name} does not say what it returns")
    return TypeAdapter(annotation)


def _needs_workspace(name: str, annotation: Any) -> bool:
    if not (isinstance(annotation, type) and issubclass(annotation, Run)):
        raise ToolDeclarationError(f"{name}: the first argument must be a Run or a Workspace")
    return issubclass(annotation, Workspace)


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without the titles that pydantic adds, and with no type shared."""
    plain: dict[str, Any] = _untitled(json.loads(json.dumps(schema)))
    return plain


def _untitled(value: Any, *, names: bool = False) -> Any:
    """Drop titles; where the keys are names of properties (`names`), a title is one as well."""
    if isinstance(value, list):
        return [_untitled(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _untitled(item, names=key in {"properties", "$defs"} and not names)
        for key, item in value.items()
        if names or key != "title"
    }


def _violations(error: ValidationError) -> dict[str, str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return {_path(item["loc"]): item["msg"] for item in found[:_MOST_VIOLATIONS]}


def _path(location: Sequence[int | str]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return f"arguments{''.join(parts)}"
