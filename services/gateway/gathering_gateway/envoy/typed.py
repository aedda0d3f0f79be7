"""Envoy's names for things: types of extensions and small shapes."""

from __future__ import annotations

from collections.abc import Iterable

from gathering_gateway.envoy.models import Config

CORS = "envoy.filters.http.cors"
JWT = "envoy.filters.http.jwt_authn"
BODY_LIMIT = "envoy.filters.http.body_size_limit"
PUBLIC_BODY_LIMIT = "gathering.limit_of_public_bodies"
LINES = "envoy.filters.http.grpc_json_transcoder"
EVENTS = "gathering.server_sent_events"  # a second transcoder, which makes text/event-stream
ADDRESS_LIMIT = "gathering.limit_by_address"
USER_LIMIT = "gathering.limit_by_user"
USER_HEADER = "x-gathering-user"
REQUEST_ID = "x-request-id"
FIELD_IN_MESSAGE = "x-gathering-field-in-message"  # within the edge only
GATEWAY_HTTP = "gateway_http"
GATEWAY_WEBSOCKETS = "gateway_websockets"  # connections of its own: keys must always be had

_TYPES = "type.googleapis.com/envoy."


def typed(kind: str, **fields: object) -> Config:
    """Return a configuration with its type, such as `config.route.v3.FilterConfig`."""
    return {"@type": f"{_TYPES}{kind}", **fields}


def off(*filters: str) -> Config:
    """Return a route's configuration that leaves out filters."""
    return {name: typed("config.route.v3.FilterConfig", disabled=True) for name in filters}


def seconds(value: float) -> str:
    """Return a duration."""
    return f"{value:g}s"


def added(headers: Iterable[tuple[str, str]]) -> list[Config]:
    """Return headers that replace others of their names."""
    return [
        {
            "header": {"key": key, "value": value},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }
        for key, value in headers
    ]


def socket(address: str) -> Config:
    """Return the address `host:port` as Envoy has it."""
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
