"""Which bodies a path takes: JSON by REST, protobuf by gRPC and gRPC-Web; others are told so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gathering_gateway.envoy.models import Config
from gathering_gateway.envoy.typed import EVENTS, JWT, LINES, off
from gathering_gateway.models_contract import HttpRoute, Rpc

GRPC = {
    "name": "content-type",
    "string_match": {
        "safe_regex": {"regex": r"application/grpc(-web(-text)?)?(\+proto)?(\s*;.*)?"}
    },
}
# A body without a type is taken for JSON.
JSON = (
    {
        "name": "content-type",
        "string_match": {"safe_regex": {"regex": r"((?i:application/json)(\s*;.*)?)?"}},
        "treat_missing_header_as_empty": True,
    },
    {
        "name": "content-encoding",
        "string_match": {"safe_regex": {"regex": "(identity)?"}},
        "treat_missing_header_as_empty": True,
    },
)
_REST_TAKES = "this path takes application/json without a content-encoding"
GRPC_TAKES = (
    "this path takes application/grpc and application/grpc-web, both with protobuf;"
    " paths for JSON are in /openapi.json"
)


def other_types(rpcs: Sequence[Rpc]) -> Iterator[Config]:
    """Yield what answers 415 where the paths' own routes did not take a body."""
    for rpc in rpcs:
        yield _refused({"path": rpc.grpc_path}, GRPC_TAKES)
        for route in rpc.routes:
            if route.body:
                yield _refused({**path(route), "headers": [method(route)]}, _REST_TAKES)


def method(route: HttpRoute) -> Config:
    """Return what matches the route's method."""
    return {"name": ":method", "string_match": {"exact": route.verb}}


def path(route: HttpRoute) -> Config:
    """Return what matches the route's path."""
    if route.variables:
        return {"safe_regex": {"regex": route.pattern}}
    return {"path": route.path}


def _refused(match: Config, text: str) -> Config:
    return {
        "match": match,
        "direct_response": {"status": 415, "body": {"inline_string": text}},
        "typed_per_filter_config": off(LINES, EVENTS, JWT),
    }
