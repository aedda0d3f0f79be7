"""The edge of a local mesh: Envoy with the configuration that production uses."""

import httpx

from gathering_gateway.envoy.app import write
from gathering_gateway.envoy.models import EdgeSettings
from gathering_local.addresses import HOST
from gathering_local.envoy import envoy_binary
from gathering_local.home import Home
from gathering_local.parts import CommandPart, Probe
from gathering_local.topology import SERVICES, Ports

_WORKERS = "2"


def edge_part(home: Home, ports: Ports) -> CommandPart:
    """Write the edge's configuration and return Envoy as a part."""
    configuration = home.run / "envoy.json"
    write(
        EdgeSettings(
            host=HOST,
            port=ports.edge,
            parts={service: ports.address(service) for service in SERVICES},
            gateway_http=f"{HOST}:{ports.gateway_http}",
        ),
        configuration,
    )
    command = [str(envoy_binary()), "-c", str(configuration), "--concurrency", _WORKERS]
    return CommandPart(
        "edge",
        f"{HOST}:{ports.edge}",
        [*command, "--disable-hot-restart", "--log-level", "warning"],
        {},
        home.logs / "edge.log",
        _answers(f"http://{HOST}:{ports.edge}/healthz"),
    )


def _answers(url: str) -> Probe:
    async def probe() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=1.0) as client:
            try:
                answer = await client.get(url)
            except httpx.HTTPError:
                return False
        return answer.is_success

    return probe
