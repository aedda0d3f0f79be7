"""The edge of a local mesh: Envoy with the configuration that production uses."""

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


def edge_part(home: Home, layout: Layout) -> CommandPart:
    """Write the edge's configuration and return Envoy as a part."""
    configuration = home.run / "envoy.json"
    write(
        EdgeSettings(
            host=HOST,
            port=layout.edge,
            parts={service: layout.addresses(service) for service in SERVICES},
            gateway_http=",".join(layout.http_addresses()),
            health_seconds=HEALTH_SECONDS,
            user_per_minute=_USER_PER_MINUTE,
            address_per_minute=_ADDRESS_PER_MINUTE,
        ),
        configuration,
    )
    command = [str(envoy_binary()), "-c", str(configuration), "--concurrency", _WORKERS]
    return CommandPart(
        "edge",
        f"{HOST}:{layout.edge}",
        [*command, "--disable-hot-restart", "--log-level", "warning"],
        {},
        home.logs / "edge.log",
        _answers(f"http://{HOST}:{layout.edge}/healthz"),
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
