"""The real Envoy before a gateway: a child process with the configuration of this tree."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import httpx

from gathering_gateway.envoy.app import write
from gathering_gateway.envoy.models import EdgeSettings
from tests.support.gateway import PASSWORD, Gateway

_START_SECONDS = 30.0


@dataclass(frozen=True)
class Edge:
    """A running edge, with a client for REST and a channel for gRPC."""

    url: str
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    process: asyncio.subprocess.Process
    log: Path


def envoy_binary() -> Path:
    """Return Envoy's binary."""
    spec = find_spec("envoy")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "_bin" / "envoy"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def validate(settings: EdgeSettings, folder: Path) -> tuple[int, str]:
    """Have the real binary judge a configuration; return its exit status and output."""
    config = folder / "validated.json"
    write(settings, config)
    command = (envoy_binary(), "--mode", "validate", "-c", config, "--log-level", "warn")
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@asynccontextmanager
async def running_edge(gateway: Gateway, folder: Path, **changes: Any) -> AsyncIterator[Edge]:
    """Run an edge before a gateway; `changes` are settings of the edge."""
    port = free_port()
    given: dict[str, Any] = {
        "port": port,
        "parts": {"gateway": f"127.0.0.1:{gateway.app.server.port}"},
        "gateway_http": f"127.0.0.1:{gateway.app.http.port}",
        "jwks_cache_seconds": 1.0,
        **changes,
    }
    config, log = folder / "envoy.json", folder / "envoy.log"
    settings = EdgeSettings(**given)
    write(settings, config)
    arguments = ("-c", config, "--concurrency", 1, "--disable-hot-restart", "--log-level", "warn")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, (envoy_binary(), *arguments)), stdout=output, stderr=output
        )
    scheme = "http" if settings.tls_certificate is None else "https"
    url = f"{scheme}://127.0.0.1:{port}"
    try:
        async with (
            httpx.AsyncClient(
                base_url=url, timeout=20, trust_env=False, verify=_trust(settings)
            ) as http,
            _channel(settings) as channel,
        ):
            await _ready(http, process, log)
            yield Edge(url, http, channel, process, log)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def log_in(edge: Edge, gateway: Gateway) -> tuple[dict[str, str], dict[str, Any]]:
    """Log in by REST as a new tenant's administrator; return the header and the answer."""
    body = {"email": await gateway.tenant(), "password": PASSWORD}
    answer = await edge.http.post("/v1/auth/login", json=body)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return {"authorization": f"Bearer {tokens['access_token']}"}, tokens


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Return status and reason of an error in its usual shape."""
    assert answer.headers["content-type"].startswith("application/json"), answer.text
    body = answer.json()
    assert body["message"], body
    infos = [d for d in body["details"] if d["@type"].endswith("google.rpc.ErrorInfo")]
    assert len(infos) == 1
    assert infos[0]["domain"] == "gathering"
    return answer.status_code, infos[0]["reason"]


def _trust(settings: EdgeSettings) -> ssl.SSLContext | bool:
    if settings.tls_certificate is None:
        return True
    return ssl.create_default_context(cafile=settings.tls_certificate)


def _channel(settings: EdgeSettings) -> grpc.aio.Channel:
    address, options = f"127.0.0.1:{settings.port}", [("grpc.enable_http_proxy", 0)]
    if settings.tls_certificate is None:
        return grpc.aio.insecure_channel(address, options=options)
    trusted = grpc.ssl_channel_credentials(settings.tls_certificate.read_bytes())
    return grpc.aio.secure_channel(address, trusted, options=options)


async def _ready(http: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.returncode is None:
        try:
            if (await http.get("/healthz")).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.05)
    raise AssertionError(f"Envoy did not start: {await asyncio.to_thread(log.read_text)}")
