"""Where requests go: the gRPC ports of the parts and the gateway's HTTP side."""

from __future__ import annotations

from gathering_gateway.envoy.models import BUFFERED, Config, EdgeSettings
from gathering_gateway.envoy.typed import GATEWAY_HTTP, GATEWAY_WEBSOCKETS, seconds, socket, typed

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(settings: EdgeSettings) -> list[Config]:
    """Return all clusters."""
    return [
        *(_part(settings, name, addresses) for name, addresses in settings.parts.items()),
        *(_gateway(settings, name) for name in (GATEWAY_HTTP, GATEWAY_WEBSOCKETS)),
    ]


def _part(settings: EdgeSettings, name: str, addresses: str) -> Config:
    most = settings.unary_calls + settings.streams
    http2 = {
        "http2_protocol_options": {
            "max_concurrent_streams": most,
            "initial_stream_window_size": BUFFERED,
            # Room for all streams: what waits for slow readers must not hold up the others'.
            "initial_connection_window_size": most * BUFFERED,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        }
    }
    return _cluster(settings, name, addresses, http2, {"grpc_health_check": {}})


def _gateway(settings: EdgeSettings, name: str) -> Config:
    check = {"http_health_check": {"path": "/healthz"}}
    http: Config = {"http_protocol_options": {}}
    return _cluster(settings, name, settings.gateway_http, http, check)


def _cluster(
    settings: EdgeSettings, name: str, addresses: str, protocol: Config, check: Config
) -> Config:
    endpoints = [{"endpoint": {"address": socket(each)}} for each in addresses.split(",")]
    most = settings.unary_calls + settings.streams
    threshold = {
        "max_connections": most,
        "max_requests": most,
        "max_pending_requests": most,
        "max_retries": 16,
        "track_remaining": True,
    }
    return {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "ALL",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": BUFFERED,
        "lb_policy": "LEAST_REQUEST",
        "health_checks": [_health_check(settings, check)],
        # Where none is healthy, try all: a wrong health check must not be worse than the fault.
        # But as long as one is, a replica that drains gets nothing new.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "typed_extension_protocol_options": {
            _OPTIONS: typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config=protocol,
            )
        },
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _health_check(settings: EdgeSettings, how: Config) -> Config:
    """Return a check; a replica that says NOT_SERVING is out at once, one that is silent later."""
    return {
        "timeout": "2s",
        "interval": seconds(settings.health_seconds),
        "no_traffic_interval": seconds(settings.health_seconds),
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        **how,
    }
