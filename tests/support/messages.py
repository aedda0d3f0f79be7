"""Strategies for messages of all types, from their descriptors, within their bounds or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from gathering.options.v1.options_pb2 import Bounds
from gathering_mesh.options import field_bounds

_DEEPEST = 4
_KINDS = FieldDescriptor
_RANGES = {
    **dict.fromkeys(
        (_KINDS.TYPE_INT32, _KINDS.TYPE_SINT32, _KINDS.TYPE_SFIXED32), (-(2**31), 2**31 - 1)
    ),
    **dict.fromkeys(
        (_KINDS.TYPE_INT64, _KINDS.TYPE_SINT64, _KINDS.TYPE_SFIXED64), (-(2**63), 2**63 - 1)
    ),
    **dict.fromkeys((_KINDS.TYPE_UINT32, _KINDS.TYPE_FIXED32), (0, 2**32 - 1)),
    **dict.fromkeys((_KINDS.TYPE_UINT64, _KINDS.TYPE_FIXED64), (0, 2**64 - 1)),
}
_JSON = {"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"}
_NASTY = st.sampled_from(
    [
        "",
        "\0",
        "a\0b",
        "\ud7ff\U0010ffff",
        "x" * 5000,
        "../..",
        "\u202e",
        "'; drop table x; --",
        "{}",
    ]
)


def messages(descriptor: Descriptor, *, fitting: bool, depth: int = 0) -> st.SearchStrategy[Any]:
    """Return messages of a type; `fitting` ones keep most bounds, so that checks let many pass."""
    if descriptor.full_name in _JSON:
        return _json_messages(descriptor.name, fitting=fitting)
    if descriptor.full_name == "google.protobuf.Timestamp":
        return _times(descriptor, (-62_135_596_800, 253_402_300_799), fitting=fitting)
    return _messages(descriptor, fitting, depth)


@st.composite
def _messages(draw: st.DrawFn, descriptor: Descriptor, fitting: bool, depth: int) -> Any:
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        bounds = field_bounds(field) or Bounds()
        needed = fitting and bounds.required
        if field.type == _KINDS.TYPE_MESSAGE and depth >= _DEEPEST and not needed:
            continue
        if needed or draw(st.booleans()):
            _Filler(draw, fitting, depth + 1).fill(message, field, bounds)
    return message


@dataclass(frozen=True)
class _Filler:
    """Draws values of fields."""

    draw: st.DrawFn
    fitting: bool
    depth: int

    def fill(self, message: Any, field: FieldDescriptor, bounds: Bounds) -> None:
        """Set a field."""
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            self._entries(getattr(message, field.name), kind)
        elif field.is_repeated:
            least = 1 if self.fitting and bounds.required else 0
            values = st.lists(
                self._values(field, bounds), min_size=least, max_size=min(4, bounds.max_items or 4)
            )
            getattr(message, field.name).extend(self.draw(values))
        elif kind is not None:
            getattr(message, field.name).CopyFrom(self.draw(self._values(field, bounds)))
        else:
            setattr(message, field.name, self.draw(self._values(field, bounds)))

    def _values(self, field: FieldDescriptor, bounds: Bounds) -> st.SearchStrategy[Any]:
        if field.message_type is not None:
            return messages(field.message_type, fitting=self.fitting, depth=self.depth)
        return _fitting(field, bounds) if self.fitting else _any(field, bounds)

    def _entries(self, entries: Any, kind: Descriptor) -> None:
        key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        for name in self.draw(st.lists(self._values(key, Bounds()), max_size=3)):
            found = self.draw(self._values(value, Bounds()))
            if value.message_type is not None:
                entries[name].CopyFrom(found)
            else:
                entries[name] = found


def _fitting(field: FieldDescriptor, bounds: Bounds) -> st.SearchStrategy[Any]:
    if field.type == _KINDS.TYPE_STRING:
        return _texts(field, bounds)
    if field.type == _KINDS.TYPE_BYTES:
        return st.binary(max_size=min(64, bounds.max_bytes or 64))
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    least = bounds.minimum if bounds.HasField("minimum") else None
    most = bounds.maximum if bounds.HasField("maximum") else None
    if field.type in _RANGES:
        bottom, top = _RANGES[field.type]
        return st.integers(
            bottom if least is None else max(bottom, int(least)),
            top if most is None else min(top, int(most)),
        )
    if field.type == _KINDS.TYPE_BOOL:
        return st.booleans()
    return st.floats(least, most, width=32, allow_nan=False, allow_infinity=False)


def _any(field: FieldDescriptor, bounds: Bounds) -> st.SearchStrategy[Any]:
    if field.type == _KINDS.TYPE_STRING:
        return st.one_of(_texts(field, bounds), _NASTY, st.text())
    if field.enum_type is not None:
        return st.one_of(_fitting(field, bounds), st.integers(-(2**31), 2**31 - 1))
    if field.type in _RANGES:
        return st.integers(*_RANGES[field.type])
    if field.type in {_KINDS.TYPE_DOUBLE, _KINDS.TYPE_FLOAT}:
        return st.floats(width=32)
    return _fitting(field, bounds)


def _texts(field: FieldDescriptor, bounds: Bounds) -> st.SearchStrategy[str]:
    """Return texts that a field takes."""
    if bounds.id:
        prefix = bounds.id
        return st.integers(0, 2**128 - 1).map(lambda number: f"{prefix}_{number:032x}")
    if bounds.pattern:
        return st.from_regex(bounds.pattern, fullmatch=True)
    most = (bounds.item_max_chars if field.is_repeated else 0) or bounds.max_chars or 40
    least = max(1, bounds.min_chars) if bounds.required or field.is_repeated else 0
    alphabet = st.characters(codec="utf-8", exclude_characters="\0")
    return st.text(alphabet, min_size=least, max_size=max(least, min(most, 40)))


def _times(
    descriptor: Descriptor, seconds: tuple[int, int], *, fitting: bool
) -> st.SearchStrategy[Any]:
    made = GetMessageClass(descriptor)
    if not fitting:
        seconds = (-(2**63), 2**63 - 1)
    nanos = st.integers(0, 999_999_999) if fitting else st.integers(-(2**31), 2**31 - 1)
    return st.builds(made, seconds=st.integers(*seconds), nanos=nanos)


def _json_messages(name: str, *, fitting: bool) -> st.SearchStrategy[Any]:
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0" if fitting else ""))
    number = st.floats(allow_nan=not fitting, allow_infinity=not fitting)
    leaf = st.one_of(st.none(), st.booleans(), number, text)
    value = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)
        ),
        max_leaves=8,
    )
    if name == "Struct":
        return st.dictionaries(text, value, max_size=3).map(_struct)
    if name == "ListValue":
        return st.lists(value, max_size=3).map(_list)
    return value.map(_value)


def _struct(values: dict[str, Any]) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={key: _value(one) for key, one in values.items()})


def _list(values: list[Any]) -> struct_pb2.ListValue:
    return struct_pb2.ListValue(values=[_value(one) for one in values])


def _value(value: Any) -> struct_pb2.Value:
    match value:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case bool():
            return struct_pb2.Value(bool_value=value)
        case float():
            return struct_pb2.Value(number_value=value)
        case str():
            return struct_pb2.Value(string_value=value)
        case dict():
            return struct_pb2.Value(struct_value=_struct(value))
    return struct_pb2.Value(list_value=_list(value))
