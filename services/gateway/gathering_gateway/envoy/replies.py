"""What the edge answers itself, in the shape of the services' errors.

A service's own errors pass as they are. For gRPC callers the details go into a header, and the body
of the reply, which becomes `grpc-message`, stays a sentence.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from gathering_gateway.envoy.models import Config
from gathering_gateway.envoy.typed import added, typed
from gathering_mesh.errors import DomainError, ResourceExhausted, Unauthenticated, Unavailable
from gathering_mesh.status import DETAILS_KEY, to_wire

_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_GRPC_TYPE = {
    "name": "content-type",
    "string_match": {"prefix": "application/grpc"},
    "treat_missing_header_as_empty": True,
}
# The transcoder sets it, and makes the content type that of gRPC.
_TRANSCODED = {"name": "x-envoy-original-path", "present_match": True}
_GRPC_CALLER = {
    "and_filter": {
        "filters": [
            {"header_filter": {"header": _GRPC_TYPE}},
            {"header_filter": {"header": {**_TRANSCODED, "invert_match": True}}},
        ]
    }
}
_JSON_CALLER = {
    "or_filter": {
        "filters": [
            {"header_filter": {"header": {**_GRPC_TYPE, "invert_match": True}}},
            {"header_filter": {"header": _TRANSCODED}},
        ]
    }
}
_EXPIRED = "response.code_details.contains('Jwt_is_expired')"
_BAD_PATH = "response.code_details.contains('path_normalization')"
_NO_KEYS = "response.code_details.contains('Jwks_remote_fetch')"
_MISSING = "response.code_details.contains('Jwt_is_missing')"


class _NotServed(DomainError):
    """Envoy's answer to gRPC where no route leads anywhere."""

    status = "UNIMPLEMENTED"


@dataclass(frozen=True, slots=True)
class _Reply:
    """An HTTP status, or one with certain details, and what it is for us."""

    status: int
    code: int  # of gRPC, in JSON
    reason: str
    message: str = "%LOCAL_REPLY_BODY%"
    when: str = ""  # CEL over the request and the response
    becomes: int = 0  # the HTTP status that is sent instead
    grpc: type[DomainError] | None = None  # what Envoy makes of it for gRPC callers, if stable


_REPLIES = (
    _Reply(400, 3, "MALFORMED_REQUEST", "the path is not valid", _BAD_PATH),
    _Reply(400, 3, "MALFORMED_REQUEST"),
    _Reply(401, 14, "UNAVAILABLE", "tokens cannot be verified now", _NO_KEYS, 503, Unavailable),
    _Reply(401, 16, "TOKEN_EXPIRED", "the token has expired", _EXPIRED, 0, Unauthenticated),
    _Reply(401, 16, "TOKEN_MISSING", "a user's token is needed", _MISSING, 0, Unauthenticated),
    _Reply(401, 16, "TOKEN_INVALID", "the token is not valid", "", 0, Unauthenticated),
    _Reply(403, 7, "NOT_ALLOWED", "the connection cannot be upgraded here"),
    _Reply(404, 5, "NOT_FOUND", "there is nothing at this path", "", 0, _NotServed),
    _Reply(405, 12, "NOT_FOUND", "this path has other methods; see the header allow"),
    _Reply(408, 4, "DEADLINE_EXCEEDED", "the request did not come to its end in time"),
    _Reply(413, 8, "MESSAGE_TOO_LARGE", "the body is larger than the limit"),
    _Reply(415, 3, "MALFORMED_REQUEST"),
    _Reply(429, 8, "RATE_LIMITED", "too many requests; try again later", "", 0, ResourceExhausted),
    _Reply(431, 8, "MESSAGE_TOO_LARGE", "the headers are larger than the limit"),
    _Reply(502, 14, "UNAVAILABLE", "the service cannot be reached now"),
    _Reply(503, 14, "UNAVAILABLE", "the service cannot be reached now", "", 0, Unavailable),
    _Reply(504, 4, "DEADLINE_EXCEEDED", "the service did not answer in time"),
)
_ELSE = _Reply(400, 13, "INTERNAL", "%LOCAL_REPLY_BODY%")


def local_replies() -> Config:
    """Return what turns the edge's own refusals into errors of ours."""
    return {"mappers": [*_mappers()]}


def _mappers() -> Iterator[Config]:
    for reply in _REPLIES:
        equal = _status("EQ", reply.status)
        if reply.grpc is not None:
            yield _for_grpc(reply, reply.grpc, equal)
        yield _for_json(reply, equal)
    yield _for_json(_ELSE, _status("GE", _ELSE.status))


def _for_json(reply: _Reply, status: Config) -> Config:
    body = {
        "code": reply.code,
        "message": reply.message,
        "details": [
            {
                "@type": _INFO,
                "reason": reply.reason,
                "domain": "gathering",
                "metadata": {"request_id": "%REQ(X-REQUEST-ID)%"},
            }
        ],
    }
    return {
        **_status_code(reply),
        "filter": _all(status, _JSON_CALLER, *_when(reply)),
        "body_format_override": {"content_type": "application/json", "json_format": body},
    }


def _for_grpc(reply: _Reply, error: type[DomainError], status: Config) -> Config:
    details = base64.b64encode(_details(error, reply)).decode().rstrip("=")
    text = {"text_format_source": {"inline_string": reply.message}}
    return {
        **_status_code(reply),
        "filter": _all(status, _GRPC_CALLER, *_when(reply)),
        "headers_to_add": added([(DETAILS_KEY, details)]),
        "body_format_override": text,
    }


def _details(error: type[DomainError], reply: _Reply) -> bytes:
    """Return the serialised google.rpc.Status, as the services send it."""
    wire = to_wire(error(reply.message, reason=reply.reason), "")
    return next(value for _, value in wire.metadata if isinstance(value, bytes))


def _status_code(reply: _Reply) -> Config:
    return {"status_code": reply.becomes} if reply.becomes else {}


def _status(operator: str, value: int) -> Config:
    compared = {"default_value": value, "runtime_key": "gathering.unused"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": compared}}}


def _when(reply: _Reply) -> list[Config]:
    if not reply.when:
        return []
    cel = typed("extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=reply.when)
    return [{"extension_filter": {"name": "cel", "typed_config": cel}}]


def _all(*filters: Config) -> Config:
    return {"and_filter": {"filters": list(filters)}}
