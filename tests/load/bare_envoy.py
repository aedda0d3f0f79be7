"""Envoy with nothing but what a proxy needs: the router, and for REST the transcoder."""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gathering_gateway.convert_contract import read_contract
from gathering_gateway.envoy.typed import socket, typed
from gathering_local.addresses import free_ports
from gathering_local.envoy import envoy_binary
from tests.load.children import end

_START_SECONDS = 30.0
_WORKERS = "2"  # as local mode has it
_HTTP = "extensions.filters.http"
Config = dict[str, Any]


@dataclass(frozen=True)
class BareEnvoy:
    """A running one; `grpc` routes, `rest` transcodes as well."""

    pid: int
    grpc: str
    rest: str


@asynccontextmanager
async def bare_envoy(upstream: str, services: Sequence[str]) -> AsyncIterator[BareEnvoy]:
    """Run one before a gRPC server."""
    to_grpc, to_rest = free_ports(2)
    listeners = [_listener(to_grpc, [_router()])]
    listeners.append(_listener(to_rest, [_transcoder(services), _router()]))
    resources = {"listeners": listeners, "clusters": [_cluster(upstream)]}
    async with envoy({"static_resources": resources}, to_rest) as pid:
        yield BareEnvoy(pid, f"127.0.0.1:{to_grpc}", f"127.0.0.1:{to_rest}")


@asynccontextmanager
async def envoy(config: Config, port: int) -> AsyncIterator[int]:
    """Run Envoy with a configuration that has it listen on a port; yield the process."""
    with tempfile.TemporaryDirectory(prefix="gathering-bench-") as folder:
        file = Path(folder) / "envoy.json"
        file.write_text(json.dumps(config))
        arguments = ("-c", str(file), "--concurrency", _WORKERS, "--disable-hot-restart")
        process = await asyncio.create_subprocess_exec(
            str(envoy_binary()), *arguments, "--log-level", "critical"
        )
        try:
            await _listens(port, process)
            yield process.pid
        finally:
            await end(process)


async def _listens(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
    raise RuntimeError("an Envoy ended")


def _listener(port: int, filters: Sequence[Config]) -> Config:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "service", "timeout": "0s"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bare",
        codec_type="AUTO",
        route_config={"name": "bare", "virtual_hosts": hosts},
        http_filters=filters,
    )
    chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": f"bare-{port}",
        "address": socket(f"127.0.0.1:{port}"),
        "filter_chains": [{"filters": [chain]}],
    }


def _router() -> Config:
    return {"name": "envoy.filters.http.router", "typed_config": typed(f"{_HTTP}.router.v3.Router")}


def _transcoder(services: Sequence[str]) -> Config:
    encoded = base64.b64encode(read_contract().transcoder_set()).decode()
    options = {"preserve_proto_field_names": True, "always_print_primitive_fields": True}
    config = typed(
        f"{_HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor_bin=encoded,
        services=list(services),
        print_options=options,
    )
    return {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": config}


def _cluster(upstream: str) -> Config:
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2: Config = {"explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"endpoint": {"address": socket(upstream)}}
    return {
        "name": "service",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            options: typed("extensions.upstreams.http.v3.HttpProtocolOptions", **http2)
        },
        "load_assignment": {
            "cluster_name": "service",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
