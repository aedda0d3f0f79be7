"""The edge of a local mesh: Envoy with the configuration that production uses."""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from gathering_gateway.envoy.app import write
from gathering_gateway.envoy.models import EdgeSettings
from gathering_local.addresses import HOST
from gathering_local.envoy import envoy_binary
from gathering_local.home import Home
from gathering_local.layout import SERVICES, Layout
from gathering_local.parts import CommandPart, Probe
from gathering_local.topology import HEALTH_SECONDS

_WORKERS = "2"
# One machine's users all come from one address, and load tests as one user.
_USER_PER_MINUTE = 60_000
_ADDRESS_PER_MINUTE = 6_000
_DRAIN_SECONDS = 2.0  # the services end their streams meanwhile, with frames to resume from
_POLL_SECONDS = 0.05
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path


@dataclass
class EdgePart(CommandPart):
    """Envoy, which ends what it has begun before it ends; at once where it has no admin."""

    admin: Path | None = None

    async def stop(self) -> None:
        """Take no more connections, let those end that are open, then end."""
        if self.admin is not None and self.pid is not None:
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await _drain(self.admin)
        await super().stop()


def edge_part(home: Home, layout: Layout) -> EdgePart:
    """Write the edge's configuration and return Envoy as a part."""
    configuration, admin = home.run / "envoy.json", _admin_socket(home)
    write(
        EdgeSettings(
            host=HOST,
            port=layout.edge,
            parts={service: layout.addresses(service) for service in SERVICES},
            gateway_http=",".join(layout.http_addresses()),
            health_seconds=HEALTH_SECONDS,
            user_per_minute=_USER_PER_MINUTE,
            address_per_minute=_ADDRESS_PER_MINUTE,
            admin_socket=admin,
        ),
        configuration,
    )
    command = [str(envoy_binary()), "-c", str(configuration), "--concurrency", _WORKERS]
    return EdgePart(
        "edge",
        f"{HOST}:{layout.edge}",
        [*command, "--disable-hot-restart", "--log-level", "warning"],
        {},
        home.logs / "edge.log",
        _answers(f"http://{HOST}:{layout.edge}/healthz"),
        admin=admin,
    )


def _admin_socket(home: Home) -> Path | None:
    """Return where Envoy's admin listens, for the owner of the home alone."""
    socket = home.run / "envoy.sock"
    return socket if len(os.fsencode(socket)) <= _LONGEST_SOCKET else None


async def _drain(admin: Path) -> None:
    """Return when no request is open."""
    transport = httpx.AsyncHTTPTransport(uds=str(admin))
    async with httpx.AsyncClient(transport=transport, base_url="http://envoy") as client:
        # Answers now tell clients to let their connections go.
        await client.post("/healthcheck/fail")
        await client.post("/drain_listeners")
        while await _open_requests(client):  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL_SECONDS)


async def _open_requests(client: httpx.AsyncClient) -> int:
    stats = await client.get("/stats", params={"filter": r"^http\.edge\.downstream_rq_active$"})
    return int(stats.text.rpartition(":")[2] or 0)


def _answers(url: str) -> Probe:
    async def probe() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=1.0) as client:
            try:
                answer = await client.get(url)
            except httpx.HTTPError:
                return False
        return answer.is_success

    return probe
