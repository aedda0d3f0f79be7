"""The chain of filters that each request passes, in this order."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from gathering_gateway.envoy.fields import NAME_FIELD
from gathering_gateway.envoy.limits import filters_after_tokens, filters_before_tokens
from gathering_gateway.envoy.models import PUBLIC_BODY, Config, EdgeSettings, largest_body
from gathering_gateway.envoy.typed import (
    BODY_LIMIT,
    CORS,
    EVENTS,
    GATEWAY_HTTP,
    JWT,
    LINES,
    PUBLIC_BODY_LIMIT,
    USER_HEADER,
    seconds,
    typed,
)
from gathering_gateway.envoy.websocket import PATH as WEBSOCKETS
from gathering_gateway.envoy.websocket import token_places
from gathering_gateway.models_contract import Rpc
from gathering_mesh.tokens import AUDIENCE, ISSUER

JWKS_PATH = "/.well-known/jwks.json"
HEALTH_PATH = "/healthz"
_PROVIDER = "user"
_OPENER = "user_of_websocket"
_FETCH_SECONDS = 5.0


def http_filters(settings: EdgeSettings, rpcs: Sequence[Rpc], descriptors: bytes) -> list[Config]:
    """Return the chain."""
    services = sorted({rpc.service for rpc in rpcs if rpc.routes and rpc.part in settings.parts})
    encoded = base64.b64encode(descriptors).decode()
    return [
        _filter(
            "envoy.filters.http.health_check",
            "extensions.filters.http.health_check.v3.HealthCheck",
            pass_through_mode=False,
            headers=[{"name": ":path", "string_match": {"exact": HEALTH_PATH}}],
        ),
        _filter(CORS, "extensions.filters.http.cors.v3.Cors"),
        _filter(
            "envoy.filters.http.lua",
            "extensions.filters.http.lua.v3.Lua",
            default_source_code={"inline_string": NAME_FIELD},
        ),
        # Before all that may refuse, so that browsers get refusals in the form of gRPC.
        _filter("envoy.filters.http.grpc_web", "extensions.filters.http.grpc_web.v3.GrpcWeb"),
        *filters_before_tokens(settings),
        _tokens(settings),
        *filters_after_tokens(settings),
        _body_limit(PUBLIC_BODY_LIMIT, PUBLIC_BODY),
        _body_limit(BODY_LIMIT, largest_body(settings)),
        _transcoder(settings, LINES, services, encoded, stream_newline_delimited=True),
        _transcoder(settings, EVENTS, services, encoded, stream_sse_style_delimited=True),
        _filter(
            "envoy.filters.http.router",
            "extensions.filters.http.router.v3.Router",
            suppress_envoy_headers=True,
        ),
    ]


def _filter(name: str, kind: str, **fields: object) -> Config:
    return {"name": name, "typed_config": typed(kind, **fields)}


def _tokens(settings: EdgeSettings) -> Config:
    """Ask for a user's token on every route that does not leave this filter out."""
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "forward": True,  # the services verify it again
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [{"header_name": USER_HEADER, "claim_name": "sub"}],
        "clock_skew_seconds": 5,
        "require_expiration": True,
        "jwt_cache_config": {"jwt_cache_size": 1000},
        "remote_jwks": {
            "http_uri": {
                "uri": f"http://gateway{JWKS_PATH}",
                "cluster": GATEWAY_HTTP,
                "timeout": seconds(_FETCH_SECONDS),
            },
            "cache_duration": seconds(settings.jwks_cache_seconds),
            # Fetched before it is asked for, and anew before it is old.
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
        },
    }
    return _filter(
        JWT,
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={_PROVIDER: provider, _OPENER: provider | token_places()},
        rules=[
            {"match": {"path": WEBSOCKETS}, "requires": {"provider_name": _OPENER}},
            {"match": {"prefix": "/"}, "requires": {"provider_name": _PROVIDER}},
        ],
        bypass_cors_preflight=True,
    )


def _body_limit(name: str, most: int) -> Config:
    kind = "extensions.filters.http.body_size_limit.v3.BodySizeLimit"
    return _filter(name, kind, max_request_bytes=most)


def _transcoder(
    settings: EdgeSettings, name: str, services: Sequence[str], descriptors: str, **stream: bool
) -> Config:
    whole = largest_body(settings)
    return _filter(
        name,
        "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=descriptors,
        services=services,
        convert_grpc_status=True,
        # Or the route is chosen again by the path of gRPC, and loses its time and limits.
        match_incoming_request_route=True,
        # One message is converted as a whole; streams are sent message by message.
        max_request_body_size=whole,
        max_response_body_size=whole,
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        print_options={
            "preserve_proto_field_names": True,
            "always_print_primitive_fields": True,
            **stream,
        },
    )
