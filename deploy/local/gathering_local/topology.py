"""What a local mesh consists of: ports, keys, environment and stages of the five services."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering_local.addresses import HOST, free_port
from gathering_local.home import Home, write_json, write_secret
from gathering_local.parts import CommandPart, Probe
from gathering_mesh.keys import SigningKey

SERVICES = ("memory", "skills", "agent", "orchestrator", "gateway")

# What each service may do for a user, at most; what counts is the intersection with the user's.
ACTOR_SCOPES: Mapping[str, tuple[str, ...]] = {
    "memory": (),
    "skills": ("agents.read",),
    "agent": (
        "memory.read", "memory.write", "skills.read", "skills.execute", "users.self",
    ),
    "orchestrator": (
        "agents.read", "sessions.read", "sessions.write", "memory.read", "memory.write",
        "skills.read", "workspaces.read", "users.self",
    ),
    "gateway": ("events.read",),
}  # fmt: skip


@dataclass(frozen=True)
class Ports:
    """Where each part listens in this run; a part that is started again keeps its port."""

    edge: int
    postgres: int = field(default_factory=free_port)
    gateway_http: int = field(default_factory=free_port)
    services: Mapping[str, int] = field(
        default_factory=lambda: {service: free_port() for service in SERVICES}
    )

    def address(self, service: str) -> str:
        """Return a service's own address."""
        return f"{HOST}:{self.services[service]}"


def make_actor_keys(home: Home) -> None:
    """Make each service's signing key once, and the file of what each may do."""
    actors = {}
    for service in SERVICES:
        path = home.keys / f"{service}.pem"
        if not path.exists():
            write_secret(path, SigningKey.generate().pem())
        public = SigningKey.from_pem(path.read_bytes()).public_jwk
        actors[service] = {"keys": [public], "scopes": list(ACTOR_SCOPES[service])}
    write_json(home.keys / "actors.json", actors)


def service_environment(
    service: str, home: Home, ports: Ports, databases: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """Return what a service is told; `databases` has the addresses of its two roles."""
    database, system = databases[service]
    peers = ", ".join(f'"{peer}": "{ports.address(peer)}"' for peer in SERVICES)
    return {
        "GATHERING_SERVICE": service,
        "GATHERING_SERVER__HOST": HOST,
        "GATHERING_SERVER__PORT": str(ports.services[service]),
        "GATHERING_DATABASE_URL": database,
        "GATHERING_SYSTEM_DATABASE_URL": system,
        "GATHERING_PEERS": f"{{{peers}}}",
        "GATHERING_ACTOR_KEY_FILE": str(home.keys / f"{service}.pem"),
        "GATHERING_ACTORS_FILE": str(home.keys / "actors.json"),
        "GATHERING_USER_JWKS_URL": f"http://{HOST}:{ports.gateway_http}/.well-known/jwks.json",
        "GATHERING_LOG_LEVEL": os.environ.get("GATHERING_LOG_LEVEL", "info"),
        **_own_environment(service, home, ports),
    }


def _own_environment(service: str, home: Home, ports: Ports) -> dict[str, str]:
    if service == "skills":
        # The mesh runs as the person at this machine, and only a tenant's administrator can make a
        # directory a workspace: the file system's own permissions are the bound here. But the home
        # holds the keys of all tenants.
        return {
            "GATHERING_WORKSPACE_ROOTS": '["/"]',
            "GATHERING_CLOSED_DIRECTORIES": json.dumps([str(home.folder.absolute())]),
        }
    if service == "gateway":
        return gateway_environment(home, ports)
    return {}


def gateway_environment(home: Home, ports: Ports) -> dict[str, str]:
    """Return what the gateway is told beyond the common settings."""
    return {
        "GATHERING_HTTP_PORT": str(ports.gateway_http),
        "GATHERING_KEYS_DIR": str(home.keys / "users"),
    }


def service_part(
    service: str, home: Home, ports: Ports, environment: Mapping[str, str]
) -> CommandPart:
    """Return a service as a part."""
    address = ports.address(service)
    return CommandPart(
        service,
        address,
        [sys.executable, "-m", f"gathering_{service}"],
        environment,
        home.logs / f"{service}.log",
        serving(address),
    )


def serving(address: str) -> Probe:
    """Return a probe that asks a gRPC server for its health."""

    async def probe() -> bool:
        async with grpc.aio.insecure_channel(address) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=1.0
                )
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe
