"""What the edge answers itself, in the shape of the services' errors.

A service's own errors pass as they are. For gRPC callers all goes into headers: the filter for
gRPC-Web would make a status of its own of a reply with a body.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from gathering_gateway.envoy.content_types import GRPC_TAKES
from gathering_gateway.envoy.limits import retry_seconds
from gathering_gateway.envoy.models import (
    HEADERS_KIB,
    MOST_HEADERS,
    PUBLIC_BODY,
    Config,
    EdgeSettings,
)
from gathering_gateway.envoy.typed import FIELD_IN_MESSAGE, REQUEST_ID, USER_HEADER, added, typed
from gathering_mesh import errors
from gathering_mesh.errors import DomainError
from gathering_mesh.status import DETAILS_KEY, DOMAIN, to_wire

_TYPES = "type.googleapis.com/google.rpc."
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
_LOCAL = "%LOCAL_REPLY_BODY%"
_NOT_VALID = "the request is not valid"
# What is refused before it has an id gets one here.
_ID = '%COALESCE({"operators":[{"command":"REQ","param":"X-REQUEST-ID"},"UNIQUE_ID"]})%'


class _NotServed(DomainError):
    """The answer to gRPC where no route leads anywhere."""

    status = "UNIMPLEMENTED"


_ERRORS: dict[int, type[DomainError]] = {
    3: errors.InvalidArgument, 4: errors.DeadlineExceeded, 7: errors.PermissionDenied,
    8: errors.ResourceExhausted, 12: _NotServed, 13: errors.Internal, 14: errors.Unavailable,
    16: errors.Unauthenticated,
}  # fmt: skip


def _details_hold(*texts: str) -> str:
    """Return CEL that looks for one of these in what Envoy says of its reply."""
    return " || ".join(f"response.code_details.contains('{text}')" for text in texts)


@dataclass(frozen=True, slots=True)
class _Reply:
    """An HTTP status, or one with certain details, and what it is for us."""

    status: int
    code: int  # of gRPC
    reason: str
    message: str = _LOCAL
    when: str = ""  # CEL over the request and the response
    becomes: int = 0  # the HTTP status that is sent instead
    grpc_code: int = 0  # for gRPC callers, where it differs
    message_for_grpc: str = ""  # likewise; what Envoy says itself is not fit for a header
    retry_seconds: int = 0
    names_field: bool = False  # the message, in its first words


def _replies(settings: EdgeSettings) -> tuple[_Reply, ...]:
    """Return the refusals; the first that fits counts."""
    headers, whole = settings.headers_seconds, settings.request_seconds
    late = f"at most {headers:g} s for headers, {whole:g} s for all"
    body = f"at most {settings.body_bytes} bytes, and {PUBLIC_BODY} without a token, are allowed"
    return (
        _Reply(400, 3, "MALFORMED_REQUEST", "the path is not valid", _details_hold("path_norm")),
        _Reply(400, 3, "MALFORMED_REQUEST", when=_details_hold("transcode_fail"), names_field=True,
               message_for_grpc=_NOT_VALID),
        _Reply(400, 3, "MALFORMED_REQUEST", "names of headers must not hold underscores",
               _details_hold("unexpected_underscore")),
        _Reply(400, 3, "MALFORMED_REQUEST", "the header host is missing",
               _details_hold("missing_host")),
        _Reply(400, 3, "MALFORMED_REQUEST", "the request is no valid HTTP",
               _details_hold("codec_error", "http1.", "http2.")),
        _Reply(400, 3, "MALFORMED_REQUEST", message_for_grpc=_NOT_VALID),
        _Reply(401, 14, "UNAVAILABLE", "tokens cannot be verified now",
               _details_hold("Jwks_remote_fetch"), 503),
        _Reply(401, 16, "TOKEN_EXPIRED", "the token has expired", _details_hold("Jwt_is_expired")),
        _Reply(401, 16, "TOKEN_MISSING", "a user's token is needed",
               _details_hold("Jwt_is_missing")),
        _Reply(401, 16, "TOKEN_INVALID", "the token is not valid"),
        _Reply(403, 7, "NOT_ALLOWED", "this is not allowed here"),
        _Reply(404, 5, "NOT_FOUND", "there is nothing at this path", grpc_code=12),
        _Reply(405, 12, "NOT_FOUND", "this path has other methods; see the header allow"),
        _Reply(408, 4, "DEADLINE_EXCEEDED", "the request did not come to its end in time;"
               f" {late} are allowed"),
        _Reply(413, 8, "MESSAGE_TOO_LARGE", f"the body is too large; {body}"),
        _Reply(415, 3, "MALFORMED_REQUEST", message_for_grpc=GRPC_TAKES),
        _Reply(426, 3, "MALFORMED_REQUEST", "HTTP/1.1 or HTTP/2 is needed"),
        *_rate_limits(settings),
        _Reply(431, 8, "MESSAGE_TOO_LARGE", "the headers are too large; at most"
               f" {HEADERS_KIB} KiB and {MOST_HEADERS} headers are allowed"),
        _Reply(502, 14, "UNAVAILABLE", "the service cannot be reached now"),
        _Reply(503, 14, "UNAVAILABLE", "the service cannot be reached now"),
        _Reply(504, 4, "DEADLINE_EXCEEDED", "the service did not answer in time"),
    )  # fmt: skip


def _rate_limits(settings: EdgeSettings) -> Iterator[_Reply]:
    text = "too many requests; at most {} a minute are allowed on this path"
    limits = (
        (settings.user_per_minute, f"'{USER_HEADER}' in request.headers"),
        (settings.address_per_minute, ""),
    )
    for most, when in limits:
        retry = retry_seconds(most)
        yield _Reply(429, 8, "RATE_LIMITED", text.format(most), when, retry_seconds=retry)


_ELSE = (
    _Reply(500, 13, "INTERNAL", message_for_grpc="the edge failed"),
    _Reply(400, 3, "MALFORMED_REQUEST", message_for_grpc=_NOT_VALID),
)


def local_replies(settings: EdgeSettings) -> Config:
    """Return what turns the edge's own refusals into errors of ours."""
    return {"mappers": [*_mappers(settings)]}


def _mappers(settings: EdgeSettings) -> Iterator[Config]:
    for reply in _replies(settings):
        yield from _mapper(reply, _status("EQ", reply.status))
    for reply in _ELSE:
        yield from _mapper(reply, _status("GE", reply.status))


def _mapper(reply: _Reply, status: Config) -> Iterator[Config]:
    for caller, form in ((_GRPC_CALLER, _for_grpc(reply)), (_JSON_CALLER, _for_json(reply))):
        filters = [status, caller, *_when(reply)]
        yield {"filter": {"and_filter": {"filters": filters}}, **form}


def _for_json(reply: _Reply) -> Config:
    info = {
        "@type": f"{_TYPES}ErrorInfo",
        "reason": reply.reason,
        "domain": DOMAIN,
        "metadata": {"request_id": f"%RESP({REQUEST_ID})%"},
    }
    retry = {"@type": f"{_TYPES}RetryInfo", "retry_delay": f"{reply.retry_seconds}s"}
    body = {
        "code": reply.code,
        "message": reply.message,
        "details": [info, retry] if reply.retry_seconds else [info],
    }
    marks = [(FIELD_IN_MESSAGE, "1")] if reply.names_field else []
    return {
        **({"status_code": reply.becomes} if reply.becomes else {}),
        "headers_to_add": added([*_headers(reply), *marks]),
        "body_format_override": {"content_type": "application/json", "json_format": body},
    }


def _for_grpc(reply: _Reply) -> Config:
    code = reply.grpc_code or reply.code
    message = reply.message_for_grpc or reply.message
    details = base64.b64encode(_details(reply, code, message)).decode().rstrip("=")
    status = [("grpc-status", str(code)), ("grpc-message", message), (DETAILS_KEY, details)]
    return {
        "status_code": 200,
        "headers_to_add": added([*_headers(reply), *status]),
        "body_format_override": {
            "content_type": "application/grpc",
            "text_format_source": {"inline_string": ""},
        },
    }


def _headers(reply: _Reply) -> Iterator[tuple[str, str]]:
    yield REQUEST_ID, _ID
    if reply.retry_seconds:
        yield "retry-after", str(reply.retry_seconds)


def _details(reply: _Reply, code: int, message: str) -> bytes:
    """Return the serialised google.rpc.Status, as the services send it."""
    retry = float(reply.retry_seconds) or None
    wire = to_wire(_ERRORS[code](message, reason=reply.reason, retry_after=retry), "")
    return next(value for _, value in wire.metadata if isinstance(value, bytes))


def _status(operator: str, value: int) -> Config:
    compared = {"default_value": value, "runtime_key": "gathering.unused"}
    return {"status_code_filter": {"comparison": {"op": operator, "value": compared}}}


def _when(reply: _Reply) -> list[Config]:
    if not reply.when:
        return []
    cel = typed("extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=reply.when)
    return [{"extension_filter": {"name": "cel", "typed_config": cel}}]
