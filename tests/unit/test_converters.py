"""Converters take every message that the checks before them let pass, and refuse only as errors."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import struct_pb2
from google.protobuf.message import Message
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gathering.memory.v1 import memory_pb2
from gathering_agent import convert as agent_convert
from gathering_memory import convert as memory_convert
from gathering_mesh.errors import DomainError
from gathering_mesh.validation import Validator
from tests.e2e.rpcs import all_rpcs
from tests.support.messages import messages

SERVICES = Path(__file__).parents[2] / "services"
QUICK = settings(
    max_examples=15,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
Converter = Callable[[Any], Any]


def asked() -> set[str]:
    """Return the full names of all messages that a request is or holds."""
    found: set[str] = set()
    waiting: list[Any] = [rpc.method.input_type for rpc in all_rpcs()]
    while waiting:
        kind = waiting.pop()
        if kind.full_name not in found:
            found.add(kind.full_name)
            waiting.extend(field.message_type for field in kind.fields if field.message_type)
    return found


ASKED = asked()


def modules() -> Iterator[Any]:
    """Yield every module of a service that converts."""
    for file in sorted(SERVICES.glob("*/gathering_*/**/convert*.py")):
        name = ".".join(file.relative_to(SERVICES).with_suffix("").parts[1:])
        if ".openapi." not in name:
            yield importlib.import_module(name)


def converters() -> Iterator[Any]:
    """Yield every function that takes one message, with the type of the message."""
    for module in modules():
        for name, found in inspect.getmembers(module, inspect.isfunction):
            if found.__module__ != module.__name__ or name.startswith("_"):
                continue
            kind = message_of(found)
            if kind is not None:
                yield pytest.param(found, kind, id=f"{module.__name__}.{name}")


def message_of(function: Converter) -> type[Message] | None:
    """Return the message that a function takes as its only argument."""
    names = list(inspect.signature(function).parameters)
    annotation = function.__annotations__.get(names[0]) if len(names) == 1 else None
    try:
        found = eval(annotation, function.__globals__) if isinstance(annotation, str) else None  # noqa: S307 (our own)
    except (AttributeError, NameError):
        return None  # values of enums are types for the checker only
    if not inspect.isclass(found) or not issubclass(found, Message):
        return None
    # Others, such as events, come from our own logs and tables; nobody checks bounds there.
    return found if found.DESCRIPTOR.full_name in ASKED else None


EVERY = pytest.mark.parametrize(("convert", "kind"), list(converters()))


def test_there_are_converters_of_all_five_services() -> None:
    found = {parameter.id.split(".")[0] for parameter in converters()}
    assert {name.removeprefix("gathering_") for name in found} == {
        "agent", "gateway", "memory", "orchestrator", "skills"
    }  # fmt: skip


@EVERY
@QUICK
@given(data=st.data())
def test_message_within_its_bounds_is_taken(
    convert: Converter, kind: type[Message], data: st.DataObject
) -> None:
    message = data.draw(drawn(kind, fitting=True))
    assume(passes(message))
    try:
        convert(message)
    except DomainError as error:
        assert error.message


@EVERY
@QUICK
@given(data=st.data())
def test_any_message_is_taken_or_refused_by_the_checks_before(
    convert: Converter, kind: type[Message], data: st.DataObject
) -> None:
    message = data.draw(drawn(kind, fitting=False))
    if passes(message):
        try:
            convert(message)
        except DomainError as error:
            assert error.message


def drawn(kind: type[Any], *, fitting: bool) -> st.SearchStrategy[Any]:
    """Return messages of a type."""
    return messages(kind.DESCRIPTOR, fitting=fitting)


VALIDATOR = Validator()


def passes(message: Message) -> bool:
    """Tell whether the server would let it through; it never fails otherwise."""
    try:
        VALIDATOR.check(message)
    except DomainError as error:
        assert error.fields
        return False
    return True


BACK_AND_FORTH: dict[type[Any], tuple[Converter, Converter]] = {
    memory_pb2.Scope: (memory_convert.scope_of, memory_convert.scope_message),
    memory_pb2.ScopeMembers: (memory_convert.members_of, memory_convert.members_message),
    memory_pb2.Memory: (memory_convert.memory_of, memory_convert.memory_message),
    struct_pb2.Struct: (agent_convert.unstruct, agent_convert.struct),
}


@pytest.mark.parametrize("kind", BACK_AND_FORTH, ids=lambda kind: kind.DESCRIPTOR.name)
@QUICK
@given(data=st.data())
def test_message_that_became_a_model_and_back_makes_the_same_model(
    kind: type[Any], data: st.DataObject
) -> None:
    to_model, to_message = BACK_AND_FORTH[kind]
    message = data.draw(drawn(kind, fitting=True))
    for path in ("state", "type", "scope.kind", "kind"):
        specify(message, path)
    assume(passes(message))
    model = to_model(message)
    assert to_model(to_message(model)) == model


def specify(message: Any, path: str) -> None:
    """Set an enum that services never leave open."""
    first, _, rest = path.partition(".")
    if first not in message.DESCRIPTOR.fields_by_name:
        return
    if rest:
        specify(getattr(message, first), rest)
    elif not getattr(message, first):
        setattr(message, first, 1)
