"""The routes: one for each path of each RPC, so that its part, time and access rule are its own.

What no route names does not exist at the edge: RPCs without a path are for the mesh alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gathering_gateway.envoy.content_types import GRPC, JSON, method, other_types, path
from gathering_gateway.envoy.limits import by_address, by_user
from gathering_gateway.envoy.models import LARGEST_READ, TOO_LARGE_PATH, Config, EdgeSettings
from gathering_gateway.envoy.tools import tool_routes
from gathering_gateway.envoy.typed import (
    BODY_LIMIT,
    CORS,
    EVENTS,
    GATEWAY_HTTP,
    JWT,
    LINES,
    PUBLIC_BODY_LIMIT,
    USER_HEADER,
    added,
    off,
    seconds,
    typed,
)
from gathering_gateway.envoy.websocket import websocket_routes
from gathering_gateway.models_contract import HttpRoute, Rpc

# Only services send these; one that a client sends must not reach them.
INTERNAL_HEADERS = ("x-gathering-actor", USER_HEADER)
# Nothing was done yet when these happen, so that any call may be repeated.
_RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 3,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    # At another replica, where there is one.
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
        }
    ],
    "host_selection_retry_max_attempts": 3,
}
_EVENT_STREAM = {"name": "accept", "string_match": {"contains": "text/event-stream"}}
# Callers by REST have no say in these, and wrong ones would be faults of ours.
_OF_GRPC = ("grpc-timeout", "grpc-encoding", "grpc-accept-encoding")
_GATEWAY_PATHS = ("/.well-known/jwks.json", "/openapi.json", "/descriptor.binpb")
_GRPC_HEADERS = "grpc-status,grpc-message,grpc-status-details-bin"


def virtual_host(settings: EdgeSettings, rpcs: Sequence[Rpc]) -> Config:
    """Return the one host with all routes; the first that matches serves."""
    served = [rpc for rpc in rpcs if rpc.routes and rpc.part in settings.parts]
    host: Config = {
        "name": "edge",
        "domains": ["*"],
        "request_headers_to_remove": list(INTERNAL_HEADERS),
        "routes": [
            _too_large(settings),
            *(_grpc_route(settings, rpc) for rpc in served),
            *(made for rpc in served for made in _rest_routes(settings, rpc)),
            *other_types(served),
            *_other_methods(served),
            *(_gateway_route(settings, path) for path in _GATEWAY_PATHS),
            *websocket_routes(settings),
            *tool_routes(settings),
            _nothing(),
        ],
    }
    if settings.cors_origins:
        host["typed_per_filter_config"] = {CORS: _cors(settings.cors_origins)}
        host["routes"].insert(0, _preflight())
    return host


def _too_large(settings: EdgeSettings) -> Config:
    """Return where bodies that are too large are read to their end, so that answers are heard."""
    sizes = {"start": settings.body_bytes + 1, "end": LARGEST_READ}
    return {
        "match": {
            "prefix": "/v1/",
            "headers": [{"name": "content-length", "range_match": sizes}],
        },
        "route": {
            "cluster": GATEWAY_HTTP,
            "timeout": "0s",  # that of a whole request holds
            "regex_rewrite": {"pattern": {"regex": "^/.*$"}, "substitution": TOO_LARGE_PATH},
        },
        "typed_per_filter_config": off(LINES, EVENTS, BODY_LIMIT, PUBLIC_BODY_LIMIT),
    }


def _grpc_route(settings: EdgeSettings, rpc: Rpc) -> Config:
    """Return the route of gRPC and gRPC-Web; the caller's deadline travels on."""
    return {
        "match": {"path": rpc.grpc_path, "headers": [GRPC]},
        "route": {
            "cluster": rpc.part,
            "timeout": "0s",
            "idle_timeout": _idle(settings, rpc),
            "max_stream_duration": {"grpc_timeout_header_max": "0s"},
            "retry_policy": _RETRY,
        },
        "typed_per_filter_config": {
            **off(LINES, EVENTS, BODY_LIMIT, PUBLIC_BODY_LIMIT),
            **_access(settings, rpc),
        },
    }


def _rest_routes(settings: EdgeSettings, rpc: Rpc) -> Iterator[Config]:
    for route in rpc.routes:
        if rpc.streamed:
            events = _rest_route(settings, rpc, route, transcoder=EVENTS)
            events["match"]["headers"].append(_EVENT_STREAM)
            yield events
        yield _rest_route(settings, rpc, route, transcoder=LINES)


def _rest_route(settings: EdgeSettings, rpc: Rpc, route: HttpRoute, *, transcoder: str) -> Config:
    headers = [method(route), *(JSON if route.body else ())]
    return {
        "match": {**path(route), "headers": headers},
        "request_headers_to_remove": list(_OF_GRPC),
        "route": {
            "cluster": rpc.part,
            "timeout": "0s" if rpc.streamed else seconds(_seconds(settings, rpc)),
            "idle_timeout": _idle(settings, rpc),
            "retry_policy": _RETRY,
        },
        "typed_per_filter_config": {
            **off(LINES if transcoder == EVENTS else EVENTS),
            **_access(settings, rpc),
        },
    }


def _other_methods(rpcs: Sequence[Rpc]) -> Iterator[Config]:
    """Yield what answers 405 on known paths, and says which methods there are."""
    allowed: dict[str, tuple[HttpRoute, set[str]]] = {}
    for rpc in rpcs:
        for route in rpc.routes:
            allowed.setdefault(route.pattern, (route, set()))[1].add(route.verb)
    for route, verbs in allowed.values():
        yield {
            "match": path(route),
            "direct_response": {"status": 405},
            "response_headers_to_add": added([("allow", ", ".join(sorted(verbs)))]),
            "typed_per_filter_config": off(LINES, EVENTS, JWT),
        }


def _gateway_route(settings: EdgeSettings, path: str) -> Config:
    return {
        "match": {"path": path},
        "route": {"cluster": GATEWAY_HTTP, "timeout": seconds(settings.unary_seconds)},
        "typed_per_filter_config": off(LINES, EVENTS, JWT),
    }


def _nothing() -> Config:
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": 404},
        "typed_per_filter_config": off(LINES, EVENTS, JWT),
    }


def _preflight() -> Config:
    """Return a route that leads somewhere, or the filter that answers browsers does not look."""
    headers = [
        {"name": ":method", "string_match": {"exact": "OPTIONS"}},
        {"name": "access-control-request-method", "present_match": True},
    ]
    return {
        "match": {"prefix": "/", "headers": headers},
        "route": {"cluster": GATEWAY_HTTP},
        "typed_per_filter_config": off(LINES, EVENTS, JWT),
    }


def _access(settings: EdgeSettings, rpc: Rpc) -> Config:
    """Return the filters of who calls; the token is asked for unless the contract says public."""
    if rpc.public:
        return {**off(JWT), **by_address(settings)}
    return {**off(PUBLIC_BODY_LIMIT), **by_user(settings)}


def _seconds(settings: EdgeSettings, rpc: Rpc) -> float:
    return settings.slow_seconds if rpc.full_name in settings.slow else settings.unary_seconds


def _idle(settings: EdgeSettings, rpc: Rpc) -> str:
    return "0s" if rpc.streamed else seconds(_seconds(settings, rpc))


def _cors(origins: Sequence[str]) -> Config:
    return typed(
        "extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[
            {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
            for origin in origins
        ],
        forward_not_matching_preflights=False,
        allow_methods="GET, POST, PUT, PATCH, DELETE",
        allow_headers="authorization, content-type, accept, x-request-id, traceparent,"
        " grpc-timeout, x-grpc-web, x-user-agent",
        expose_headers=f"x-request-id, retry-after, {_GRPC_HEADERS}",
        max_age="3600",
    )
