"""Check a message against the bounds of its contract, compiled once per message type.

The walk goes through nested messages, lists and maps and collects what is wrong by field path
(`scope.circle_id`, `tags[3]`, `labels["a"]`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gathering_mesh.bounds import Check, finite, value_checks
from gathering_mesh.errors import InvalidArgument
from gathering_mesh.options import field_bounds, message_type

MAX_VIOLATIONS = 20  # that many are reported; nobody corrects more at once
# Of google.protobuf.Struct, Value and ListValue. A level costs up to three levels of protobuf
# messages, of which parsers take 100: what is accepted must fit into an answer around it.
MAX_JSON_DEPTH = 20

Violation = tuple[str, str]
_Walk = Callable[[Any, str], Iterator[Violation]]
_MESSAGE = FieldDescriptor.TYPE_MESSAGE
_JSON = frozenset(
    t.DESCRIPTOR.full_name for t in (struct_pb2.Struct, struct_pb2.Value, struct_pb2.ListValue)
)


@dataclass(frozen=True, slots=True)
class _Field:
    """What is checked of one field."""

    name: str
    presence: bool  # only a set field is checked
    required: bool
    default_passes: bool  # then an unset field needs no look
    max_items: int
    values: Callable[[Any], Iterable[tuple[str, Any]]]  # suffix of the path, value
    walk: _Walk


class Validator:
    """Checks messages; holds the compiled checks of every type that it has seen."""

    def __init__(self) -> None:
        self._compiled: dict[str, list[_Field]] = {}

    def prepare(self, descriptor: Descriptor) -> None:
        """Compile the checks of a type now; ContractError where bounds do not fit their field."""
        self._fields(descriptor)

    def check(self, message: Message) -> None:
        """Raise InvalidArgument with every field that is wrong (at most MAX_VIOLATIONS)."""
        found: dict[str, str] = {}
        for path, problem in self._message(message, ""):
            found.setdefault(path, problem)
            if len(found) == MAX_VIOLATIONS:
                break
        if found:
            path, problem = next(iter(found.items()))
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            raise InvalidArgument(f"{path} {problem}{more}", fields=found)

    def _message(self, message: Message, prefix: str) -> Iterator[Violation]:
        for field in self._fields(cast(Descriptor, message.DESCRIPTOR)):
            path = prefix + field.name
            if field.presence and not message.HasField(field.name):
                if field.required:
                    yield path, "is required"
                continue
            value = getattr(message, field.name)
            if value or not field.default_passes:
                yield from _field(field, value, path)

    def _fields(self, descriptor: Descriptor) -> list[_Field]:
        known = self._compiled.get(descriptor.full_name)
        if known is None:
            known = self._compiled[descriptor.full_name] = []  # filled below: types may recur
            known.extend(filter(None, (self._compile(f) for f in descriptor.fields)))
        return known

    def _compile(self, field: FieldDescriptor) -> _Field | None:
        bounds = field_bounds(field)
        mapped = _is_map(field)
        if mapped:
            walk = self._map_walk(field)
        else:
            walk = self._value_walk(field, value_checks(field, bounds))
        required = bounds is not None and bounds.required
        max_items = bounds.max_items if bounds is not None else 0
        if walk is None and not required and not max_items:
            return None
        plain = not (mapped or field.is_repeated or field.type == _MESSAGE)
        passes = not plain or not any(walk(field.default_value, "") if walk else ())
        return _Field(
            field.name,
            field.has_presence,
            required,
            passes and not required,
            max_items,
            _entries if mapped else _elements if field.is_repeated else _single,
            walk or _nothing,
        )

    def _value_walk(self, field: FieldDescriptor, checks: tuple[Check, ...]) -> _Walk | None:
        nested = self._nested_walk(field)
        if not checks:
            return nested

        def walk(value: Any, path: str) -> Iterator[Violation]:
            for check in checks:
                problem = check(value)
                if problem is not None:
                    yield path, problem
            if nested is not None:
                yield from nested(value, path)

        return walk

    def _nested_walk(self, field: FieldDescriptor) -> _Walk | None:
        if field.type != _MESSAGE:
            return None
        nested = message_type(field)
        if nested.full_name in _JSON:
            return _json
        if nested.full_name.startswith("google.protobuf."):
            return None
        # A type that is being compiled right now may still come out empty; walking it is right
        # either way.
        recurs = nested.full_name in self._compiled
        if not self._fields(nested) and not recurs:
            return None
        return lambda value, path: self._message(value, f"{path}.")

    def _map_walk(self, field: FieldDescriptor) -> _Walk | None:
        key, value = (message_type(field).fields_by_name[n] for n in ("key", "value"))
        key_checks = value_checks(key, None)
        bounds = field_bounds(field)
        most = bounds.item_max_chars if bounds is not None else 0
        value_walk = self._value_walk(value, value_checks(value, None))

        def walk(entry: tuple[Any, Any], path: str) -> Iterator[Violation]:
            for check in key_checks:
                problem = check(entry[0])
                if problem is not None:
                    yield path, f"has a key that {problem}"
            if most and isinstance(entry[1], str) and len(entry[1]) > most:
                yield path, f"has {len(entry[1])} characters; at most {most} are allowed"
            if value_walk is not None:
                yield from value_walk(entry[1], path)

        return walk


def _field(field: _Field, value: Any, path: str) -> Iterator[Violation]:
    if field.required and not field.presence and not value:
        yield path, "is required"
        return
    if field.max_items and len(value) > field.max_items:
        yield path, f"has {len(value)} entries; at most {field.max_items} are allowed"
        return
    for suffix, one in field.values(value):
        yield from field.walk(one, path + suffix)


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.type == _MESSAGE and message_type(field).GetOptions().map_entry)


def _single(value: Any) -> Iterable[tuple[str, Any]]:
    return (("", value),)


def _elements(value: Any) -> Iterable[tuple[str, Any]]:
    return ((f"[{index}]", one) for index, one in enumerate(value))


def _entries(value: Any) -> Iterable[tuple[str, Any]]:
    return ((f'["{_shown(key)}"]', (key, one)) for key, one in value.items())


def _shown(key: object) -> str:
    text = str(key).replace("\0", "?")
    return text if len(text) <= 40 else f"{text[:40]}..."  # noqa: PLR2004 (a path stays readable)


def _nothing(value: Any, path: str) -> Iterator[Violation]:
    return iter(())


def _json(value: Message, path: str, depth: int = 1) -> Iterator[Violation]:
    """Walk JSON of somebody else's schema: bounded depth, storable text, finite numbers."""
    if isinstance(value, struct_pb2.Value):
        yield from _json_value(value, path, depth)
    elif depth > MAX_JSON_DEPTH:
        yield path, f"is nested deeper than {MAX_JSON_DEPTH} levels"
    elif isinstance(value, struct_pb2.Struct):
        for key, one in value.fields.items():
            if "\0" in key:
                yield path, "has a key that must not hold NUL characters"
            yield from _json_value(one, f"{path}.{_shown(key)}", depth + 1)
    elif isinstance(value, struct_pb2.ListValue):
        for index, one in enumerate(value.values):
            yield from _json_value(one, f"{path}[{index}]", depth + 1)


def _json_value(value: struct_pb2.Value, path: str, depth: int) -> Iterator[Violation]:
    match value.WhichOneof("kind"):
        case "string_value":
            if "\0" in value.string_value:
                yield path, "must not hold NUL characters"
        case "number_value":
            problem = finite(value.number_value)
            if problem is not None:
                yield path, problem
        case "struct_value":
            yield from _json(value.struct_value, path, depth)
        case "list_value":
            yield from _json(value.list_value, path, depth)
