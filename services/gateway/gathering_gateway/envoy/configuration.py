"""The whole of Envoy's configuration."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_gateway.envoy.clusters import clusters
from gathering_gateway.envoy.filters import http_filters
from gathering_gateway.envoy.models import (
    BUFFERED,
    HEADERS_KIB,
    MOST_HEADERS,
    Config,
    EdgeSettings,
)
from gathering_gateway.envoy.replies import local_replies
from gathering_gateway.envoy.request_ids import sane_request_ids
from gathering_gateway.envoy.routes import virtual_host
from gathering_gateway.envoy.tls import tls
from gathering_gateway.envoy.typed import seconds, socket, typed
from gathering_gateway.models_contract import Rpc


def configuration(settings: EdgeSettings, rpcs: Sequence[Rpc], descriptors: bytes) -> Config:
    """Return the configuration for these RPCs; `descriptors` are the transcoder's."""
    config: Config = {
        "node": {"id": "edge", "cluster": "gathering"},
        "static_resources": {
            "listeners": [_listener(settings, rpcs, descriptors)],
            "clusters": clusters(settings),
        },
        "overload_manager": {"resource_monitors": [_connections(settings)]},
    }
    if settings.admin_socket is not None:
        config["admin"] = {"address": {"pipe": {"path": str(settings.admin_socket), "mode": 0o600}}}
    elif settings.admin_port is not None:
        config["admin"] = {"address": socket(f"127.0.0.1:{settings.admin_port}")}
    return config


def _listener(settings: EdgeSettings, rpcs: Sequence[Rpc], descriptors: bytes) -> Config:
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": _manager(settings, rpcs, descriptors),
    }
    chain: Config = {"filters": [manager]}
    if settings.tls_certificate is not None:
        chain["transport_socket"] = tls(settings)
    return {
        "name": "edge",
        "address": socket(f"{settings.host}:{settings.port}"),
        # Or two edges share a port without any error.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": BUFFERED,
        "filter_chains": [chain],
    }


def _manager(settings: EdgeSettings, rpcs: Sequence[Rpc], descriptors: bytes) -> Config:
    return typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        codec_type="AUTO",
        use_remote_address=True,
        xff_num_trusted_hops=settings.trusted_proxies,
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        early_header_mutation_extensions=[sane_request_ids()],
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        request_timeout=seconds(settings.request_seconds),
        request_headers_timeout=seconds(settings.headers_seconds),
        stream_idle_timeout="300s",
        max_request_headers_kb=HEADERS_KIB,
        common_http_protocol_options={
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": MOST_HEADERS,
        },
        http2_protocol_options={
            # As many as a service bears: one more is then refused by it, with a reason, and does
            # not wait unheard in its client's connection; calls beside many streams go through.
            "max_concurrent_streams": settings.unary_calls + settings.streams,
            "initial_stream_window_size": BUFFERED,
            "initial_connection_window_size": 1024 * 1024,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        },
        local_reply_config=local_replies(settings),
        access_log=_access_log() if settings.access_log else [],
        route_config={"name": "edge", "virtual_hosts": [virtual_host(settings, rpcs)]},
        http_filters=http_filters(settings, rpcs, descriptors),
    )


def _connections(settings: EdgeSettings) -> Config:
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(
            "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=settings.connections,
        ),
    }


def _access_log() -> list[Config]:
    line = {
        "timestamp": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",  # a query may hold what is nobody's business
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "grpc_status": "%GRPC_STATUS%",
        "ms": "%DURATION%",
        "request_id": "%RESP(X-REQUEST-ID)%",
        "part": "%UPSTREAM_CLUSTER%",
    }
    log = typed(
        "extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": line}
    )
    return [{"name": "envoy.access_loggers.stdout", "typed_config": log}]
