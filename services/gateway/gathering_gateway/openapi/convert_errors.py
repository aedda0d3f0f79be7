"""The answers to calls that fail: which statuses an operation has, and their one shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gathering_gateway.models_contract import HttpRoute
from gathering_gateway.openapi.convert_schemas import Schema

STATUS = "google.rpc.Status"
_TEXT = {"type": "string"}
_MEANINGS = {
    "400": "A value is wrong, `field_violations` name it; or the state does not allow the call.",
    "401": "There is no token, or it is wrong or has expired; a wrong password.",
    "403": "The caller has no right to this.",
    "404": "There is no such thing, or not for the caller.",
    "409": "It exists already, or another call came in between.",
    "413": "The body is too large.",
    "429": "Too many calls; `RetryInfo` and `retry-after` say when to come again.",
    "503": "A part of the mesh cannot be reached now; try again.",
    "default": "The call failed; `details` tell why.",
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
}


def refusals(route: HttpRoute, *, public: bool) -> Schema:
    """Return the references to answers other than success of an operation."""
    return {status: _reference("responses", _name(status)) for status in _statuses(route, public)}


def error_responses() -> Schema:
    """Return what `refusals` refers to."""
    return {_name(status): _response(status, text) for status, text in _MEANINGS.items()}


def status_schema() -> Schema:
    """Return the schema of an error."""
    violation = {"type": "object", "properties": {"field": _TEXT, "description": _TEXT}}
    details = [
        _detail("ErrorInfo", "The reason, one of `errors.v1.ErrorReason` without its prefix.", {
            "reason": _TEXT, "domain": {"const": "gathering"},
            "metadata": {"type": "object", "additionalProperties": _TEXT},
        }),
        _detail("BadRequest", "Which fields are wrong, and how.", {
            "field_violations": {"type": "array", "items": violation},
        }),
        _detail("RetryInfo", "When a retry is worth it.", {"retry_delay": _TEXT}),
    ]  # fmt: skip
    code = {"type": "integer", "minimum": 1, "maximum": 16}
    return {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {**code, "description": "The status of gRPC."},
            "message": {**_TEXT, "description": "For people."},
            "details": {"type": "array", "items": {"anyOf": details}},
        },
    }


def _statuses(route: HttpRoute, public: bool) -> Iterator[str]:
    yield from ("400", "401")
    if not public:
        yield "403"
    if route.variables or route.body:  # a body may name things, too
        yield "404"
    if route.verb.upper() != "GET":
        yield "409"
    if route.body:
        yield "413"
    yield from ("429", "503", "default")


def _name(status: str) -> str:
    return "Error" if status == "default" else f"Error{status}"


def _response(status: str, text: str) -> Schema:
    schema = _reference("schemas", STATUS)
    headers = {"headers": _RETRY_AFTER} if status == "429" else {}
    return {"description": text, **headers, "content": {"application/json": {"schema": schema}}}


def _reference(kind: str, name: str) -> Schema:
    return {"$ref": f"#/components/{kind}/{name}"}


def _detail(name: str, text: str, properties: dict[str, Any]) -> Schema:
    kind = {"@type": {"const": f"type.googleapis.com/google.rpc.{name}"}}
    return {
        "type": "object",
        "title": name,
        "description": text,
        "required": ["@type"],
        "properties": {**kind, **properties},
    }
