"""Where requests go: the gRPC ports of the parts and the gateway's HTTP side."""

from __future__ import annotations

from gathering_gateway.envoy.models import Config, EdgeSettings
from gathering_gateway.envoy.typed import GATEWAY_HTTP, socket, typed

_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(settings: EdgeSettings) -> list[Config]:
    """Return all clusters."""
    return [
        *(_part(settings, name, address) for name, address in settings.parts.items()),
        _cluster(settings, GATEWAY_HTTP, settings.gateway_http, {"http_protocol_options": {}}),
    ]


def _part(settings: EdgeSettings, name: str, address: str) -> Config:
    http2 = {
        "http2_protocol_options": {
            "max_concurrent_streams": settings.unary_calls + settings.streams,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        }
    }
    cluster = _cluster(settings, name, address, http2)
    cluster["health_checks"] = [
        {
            "timeout": "2s",
            "interval": "5s",
            "no_traffic_interval": "5s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "grpc_health_check": {},
        }
    ]
    # Where none is healthy, try all: a wrong health check must not be worse than the fault.
    cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 50}}
    return cluster


def _cluster(settings: EdgeSettings, name: str, address: str, protocol: Config) -> Config:
    endpoint = {"endpoint": {"address": socket(address)}}
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
        "lb_policy": "LEAST_REQUEST",
        "typed_extension_protocol_options": {
            _OPTIONS: typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config=protocol,
            )
        },
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
