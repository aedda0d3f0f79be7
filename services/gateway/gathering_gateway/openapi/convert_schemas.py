"""JSON schemas of the contract's messages, as the edge reads and writes them.

Names of fields as in the contract, 64-bit integers as strings, enums by name, bytes as base64,
times as RFC 3339, spans as `1.5s`. The bounds come from the fields' options.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gathering.options.v1.options_pb2 import Bounds
from gathering_mesh.options import field_bounds, message_type

Schema = dict[str, Any]

_INTEGER = {
    FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32,
}  # fmt: skip
_LONG = {
    FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64,
}  # fmt: skip
_NUMBER = {FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT}
WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Names of fields and commas."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}


class Schemas:
    """Collects the schemas that are referred to; `components` has them by name."""

    def __init__(self, comments: Mapping[str, str]) -> None:
        self.components: dict[str, Schema] = {}
        self._comments = comments

    def comment(self, full_name: str) -> str:
        """Return the contract's comment, empty without one."""
        return self._comments.get(full_name, "")

    def reference(self, message: Descriptor) -> Schema:
        """Return a reference to the schema of a message."""
        name = _component(message.full_name)
        if name not in self.components:
            self.components[name] = {}  # a message may hold itself
            self.components[name] = self.message(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def message(self, message: Descriptor, leave_out: Collection[str] = ()) -> Schema:
        """Return the schema of a message without some of its fields."""
        fields = [f for f in message.fields if f.name not in leave_out]
        required = [f.name for f in fields if _required(f)]
        schema: Schema = {"type": "object"}
        if text := self.comment(message.full_name):
            schema["description"] = text
        schema["properties"] = {field.name: self.field(field) for field in fields}
        if required:
            schema["required"] = required
        if choices := _choices(message, leave_out):
            schema["description"] = "\n\n".join((schema.get("description", ""), *choices)).strip()
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field with its bounds and comment."""
        bounds = field_bounds(field) or Bounds()
        schema = self._repeated(field, bounds) if field.is_repeated else self._one(field, bounds)
        text = " ".join(filter(None, (self.comment(field.full_name), *_in_words(field, bounds))))
        if text:
            # In 3.1 a reference may have a description beside it.
            schema = {**schema, "description": text}
        return schema

    def _repeated(self, field: FieldDescriptor, bounds: Bounds) -> Schema:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            most = {"maxProperties": bounds.max_items} if bounds.max_items else {}
            return {"type": "object", "additionalProperties": self._one(value, Bounds()), **most}
        schema: Schema = {"type": "array", "items": self._one(field, bounds)}
        if bounds.max_items:
            schema["maxItems"] = bounds.max_items
        if bounds.required:
            schema["minItems"] = 1
        return schema

    def _one(self, field: FieldDescriptor, bounds: Bounds) -> Schema:
        if field.message_type is not None:
            known = WELL_KNOWN.get(field.message_type.full_name)
            return dict(known) if known is not None else self.reference(message_type(field))
        if field.enum_type is not None:
            return self._enum(field.enum_type)
        if field.type == FieldDescriptor.TYPE_STRING:
            return {"type": "string", **_text_bounds(field, bounds)}
        if field.type == FieldDescriptor.TYPE_BYTES:
            return _bytes(bounds)
        if field.type == FieldDescriptor.TYPE_BOOL:
            return {"type": "boolean"}
        return _number(field, bounds)

    def _enum(self, enum: EnumDescriptor) -> Schema:
        name = _component(enum.full_name)
        if name not in self.components:
            values = [value.name for value in enum.values]
            told = [f"- `{value}`: {self.comment(f'{enum.full_name}.{value}')}" for value in values]
            text = "\n".join((self.comment(enum.full_name), "", *told)).strip()
            self.components[name] = {"type": "string", "enum": values, "description": text}
        return {"$ref": f"#/components/schemas/{name}"}


def _component(full_name: str) -> str:
    """Return `agent.v1.Agent` for `gathering.agent.v1.Agent`."""
    return full_name.removeprefix("gathering.")


def _required(field: FieldDescriptor) -> bool:
    bounds = field_bounds(field)
    return bounds is not None and bounds.required


def _choices(message: Descriptor, leave_out: Collection[str]) -> Iterable[str]:
    for oneof in message.oneofs:
        names = [f"`{f.name}`" for f in oneof.fields if f.name not in leave_out]
        if len(names) > 1:
            yield f"At most one of {', '.join(names)}."


def _text_bounds(field: FieldDescriptor, bounds: Bounds) -> Schema:
    schema: Schema = {}
    most = (bounds.item_max_chars if field.is_repeated else 0) or bounds.max_chars
    if most:
        schema["maxLength"] = most
    if bounds.required:
        schema["minLength"] = max(1, bounds.min_chars)
    pattern = f"{bounds.id}_[0-9a-f]{{32}}" if bounds.id else bounds.pattern
    if pattern:
        # What is not required may be empty.
        schema["pattern"] = f"^(?:{pattern})$" if bounds.required else f"^(?:{pattern})?$"
    return schema


def _bytes(bounds: Bounds) -> Schema:
    schema: Schema = {"type": "string", "contentEncoding": "base64"}
    if bounds.max_bytes:
        schema["maxLength"] = 4 * math.ceil(bounds.max_bytes / 3)
    return schema


def _number(field: FieldDescriptor, bounds: Bounds) -> Schema:
    if field.type in _LONG:
        return {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
    integer = field.type in _INTEGER
    schema: Schema = {"type": "integer", "format": "int32"} if integer else {"type": "number"}
    for name in ("minimum", "maximum"):
        if bounds.HasField(name):
            value = getattr(bounds, name)
            schema[name] = int(value) if integer else value
    return schema


def _in_words(field: FieldDescriptor, bounds: Bounds) -> Iterable[str]:
    """Yield the bounds that a schema cannot express."""
    text = field.type == FieldDescriptor.TYPE_STRING
    if text and bounds.max_bytes:
        yield f"At most {bounds.max_bytes} bytes as UTF-8."
    if text and bounds.min_chars and not bounds.required:
        yield f"At least {bounds.min_chars} characters, unless empty."
    if bounds.HasField("minimum_seconds"):
        yield f"At least {bounds.minimum_seconds:g}s."
    if bounds.HasField("maximum_seconds"):
        yield f"At most {bounds.maximum_seconds:g}s."
    if field.type in _LONG:
        if bounds.HasField("minimum"):
            yield f"At least {bounds.minimum:g}."
        if bounds.HasField("maximum"):
            yield f"At most {bounds.maximum:g}."
