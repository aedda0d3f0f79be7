"""Turn the bounds of one field into checks that say in words what is wrong.

A check takes a value and returns None or a phrase that completes "<field> ...". What no bound has
to say is checked as well: text without NUL (Postgres cannot store it), known enum values, times
that exist, numbers that can be compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from gathering.options.v1 import options_pb2
from gathering_mesh.options import ContractError, is_message

Check = Callable[[Any], str | None]

_STRING = FieldDescriptor.TYPE_STRING
_BYTES = FieldDescriptor.TYPE_BYTES
_ENUM = FieldDescriptor.TYPE_ENUM
_MESSAGE = FieldDescriptor.TYPE_MESSAGE
_OTHER_THAN_NUMBER = {
    _STRING, _BYTES, _ENUM, _MESSAGE, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_GROUP
}  # fmt: skip
_TEXT = ("min_chars", "max_chars", "pattern", "id")
_SECONDS = ("minimum_seconds", "maximum_seconds")
_TIMESTAMP = timestamp_pb2.Timestamp.DESCRIPTOR.full_name
_DURATION = duration_pb2.Duration.DESCRIPTOR.full_name
_TIME_RANGE = (-62_135_596_800, 253_402_300_799)  # the years 1 to 9999
_DURATION_LIMIT = 315_576_000_000
_NANOS = 1_000_000_000


def value_checks(field: FieldDescriptor, bounds: options_pb2.Bounds | None) -> tuple[Check, ...]:
    """Return the checks of one value of a field (one element where it is repeated)."""
    if bounds is not None:
        _refuse_misplaced(field, bounds)
    checks: list[Check] = []
    if field.type == _STRING:
        checks.append(_no_nul)
        checks.extend(_text_checks(field, bounds))
    elif field.type == _BYTES:
        checks.extend(_size_checks(bounds))
    elif field.type == _ENUM:
        checks.append(_known(field.enum_type))
    elif field.type == _MESSAGE:
        checks.extend(_time_checks(field, bounds))
    elif bounds is not None:
        checks.extend(_number_checks(bounds))
    return tuple(checks)


def _refuse_misplaced(field: FieldDescriptor, bounds: options_pb2.Bounds) -> None:
    number = field.type not in _OTHER_THAN_NUMBER
    duration = is_message(field, _DURATION)
    fits = {
        "max_items": field.is_repeated,
        "item_max_chars": field.is_repeated and field.type == _STRING,
        "max_bytes": field.type in {_STRING, _BYTES},
        "minimum": number,
        "maximum": number,
        **dict.fromkeys(_TEXT, field.type == _STRING),
        **dict.fromkeys(_SECONDS, duration),
    }
    for name in (found.name for found, _ in bounds.ListFields()):
        if not fits.get(name, True):
            raise ContractError(f"{field.full_name} cannot have the bound {name}")
    if bounds.required and not (
        field.is_repeated or field.has_presence or field.type in {_STRING, _BYTES, _ENUM}
    ):
        raise ContractError(f"{field.full_name} is required, but cannot be told from its default")


def _text_checks(field: FieldDescriptor, bounds: options_pb2.Bounds | None) -> list[Check]:
    if bounds is None:
        return []
    checks: list[Check] = []
    most = bounds.item_max_chars if field.is_repeated and bounds.item_max_chars else 0
    most = most or bounds.max_chars
    if most:
        checks.append(
            lambda v: (
                f"has {len(v)} characters; at most {most} are allowed" if len(v) > most else None
            )
        )
    if bounds.min_chars:
        least = bounds.min_chars
        checks.append(
            lambda v: (
                f"has {len(v)} characters; at least {least} are needed"
                if v and len(v) < least
                else None
            )
        )
    checks.extend(_size_checks(bounds))
    if bounds.pattern:
        checks.append(_matches(field, bounds.pattern, f"must match {bounds.pattern}"))
    if bounds.id:
        phrase = f"must be {bounds.id}_ and 32 lower-case hexadecimal digits"
        checks.append(_matches(field, f"{re.escape(bounds.id)}_[0-9a-f]{{32}}", phrase))
    return checks


def _matches(field: FieldDescriptor, pattern: str, phrase: str) -> Check:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ContractError(f"{field.full_name} has a pattern that is none: {error}") from error
    return lambda v: None if not v or compiled.fullmatch(v) else phrase


def _size_checks(bounds: options_pb2.Bounds | None) -> list[Check]:
    if bounds is None or not bounds.max_bytes:
        return []
    most = bounds.max_bytes

    def check(value: str | bytes) -> str | None:
        size = len(value.encode() if isinstance(value, str) else value)
        return f"has {size} bytes; at most {most} are allowed" if size > most else None

    return [check]


def _number_checks(bounds: options_pb2.Bounds) -> list[Check]:
    checks: list[Check] = []
    if bounds.HasField("minimum"):
        least = bounds.minimum
        checks.append(lambda v: None if v >= least else f"must be at least {least:g}")
    if bounds.HasField("maximum"):
        most = bounds.maximum
        checks.append(lambda v: None if v <= most else f"must be at most {most:g}")
    return checks


def _known(enum: EnumDescriptor | None) -> Check:
    if enum is None:
        raise TypeError("an enum field without its enum")
    name = enum.name
    known = frozenset(value.number for value in enum.values)
    return lambda v: None if v in known else f"{v} is no value of {name}"


def _no_nul(value: str) -> str | None:
    return "must not hold NUL characters" if "\0" in value else None


def _time_checks(field: FieldDescriptor, bounds: options_pb2.Bounds | None) -> list[Check]:
    if is_message(field, _TIMESTAMP):
        return [_real_time]
    if not is_message(field, _DURATION):
        return []
    checks: list[Check] = [_real_duration]
    if bounds is not None and bounds.HasField("minimum_seconds"):
        least = bounds.minimum_seconds
        checks.append(
            lambda v: None if _seconds(v) >= least else f"must be at least {least:g} seconds"
        )
    if bounds is not None and bounds.HasField("maximum_seconds"):
        most = bounds.maximum_seconds
        checks.append(
            lambda v: None if _seconds(v) <= most else f"must be at most {most:g} seconds"
        )
    return checks


def _seconds(value: duration_pb2.Duration) -> float:
    return value.seconds + value.nanos / _NANOS


def _real_time(value: timestamp_pb2.Timestamp) -> str | None:
    least, most = _TIME_RANGE
    if least <= value.seconds <= most and 0 <= value.nanos < _NANOS:
        return None
    return "must be a time of the years 1 to 9999"


def _real_duration(value: duration_pb2.Duration) -> str | None:
    same_sign = value.seconds * value.nanos >= 0
    if abs(value.seconds) <= _DURATION_LIMIT and abs(value.nanos) < _NANOS and same_sign:
        return None
    return "must be a duration of at most 10,000 years"


def finite(value: float) -> str | None:
    """Check a number of a Struct: JSON knows neither NaN nor infinity."""
    return None if math.isfinite(value) else "must be a finite number"
