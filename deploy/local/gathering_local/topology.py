"""What the five services of a local mesh are told: keys, addresses, settings."""

import base64
import json
import os
import secrets
import sys
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering_local.addresses import HOST
from gathering_local.home import Home, write_json, write_secret
from gathering_local.layout import SERVICES, Layout, Replica
from gathering_local.parts import CommandPart, Probe
from gathering_mesh.client import RECONNECT_SECONDS
from gathering_mesh.keys import SigningKey

# How often the edge asks each replica for its health, and how long a replica that was told to end
# says that it is not ready before it takes no more calls. The second must be the longer one.
HEALTH_SECONDS = 1.0
_NOT_READY_SECONDS = 1.5
_MASTER_KEY_BYTES = 32  # of the key by which tenants' keys of providers are encrypted
# From a replica's return until edge and peers are sure to use it again.
SETTLE_SECONDS = max(HEALTH_SECONDS, 1.2 * RECONNECT_SECONDS) + 0.5

# What each service may do for a user, at most; what counts is the intersection with the user's.
ACTOR_SCOPES: Mapping[str, tuple[str, ...]] = {
    "memory": (),
    "skills": ("agents.read",),
    "agent": (
        "memory.read", "memory.write", "skills.read", "skills.execute", "users.self",
        "workspaces.read",
    ),
    "orchestrator": (
        "agents.read", "sessions.read", "sessions.write", "memory.read", "memory.write",
        "skills.read", "workspaces.read", "users.self",
    ),
    "gateway": ("events.read",),
}  # fmt: skip


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
    replica: Replica,
    home: Home,
    layout: Layout,
    databases: Mapping[str, tuple[str, str]],
    redis_url: str = "",
) -> dict[str, str]:
    """Return what a replica is told; `databases` has the addresses of its service's two roles."""
    service = replica.service
    database, system = databases[service]
    jwks = (f"http://{address}/.well-known/jwks.json" for address in layout.http_addresses())
    return {
        "GATHERING_SERVICE": service,
        "GATHERING_SERVER__HOST": HOST,
        "GATHERING_SERVER__PORT": str(replica.port),
        "GATHERING_DATABASE_URL": database,
        "GATHERING_SYSTEM_DATABASE_URL": system,
        "GATHERING_PEERS": json.dumps({peer: layout.addresses(peer) for peer in SERVICES}),
        "GATHERING_ACTOR_KEY_FILE": str(home.keys / f"{service}.pem"),
        "GATHERING_ACTORS_FILE": str(home.keys / "actors.json"),
        "GATHERING_USER_JWKS_URL": ",".join(jwks),
        "GATHERING_REDIS_URL": redis_url,
        "GATHERING_LOG_LEVEL": os.environ.get("GATHERING_LOG_LEVEL", "info"),
        # A single one has nobody to leave its calls to.
        "GATHERING_NOT_READY_SECONDS": str(
            _NOT_READY_SECONDS if len(layout.of(service)) > 1 else 0.0
        ),
        **_own_environment(replica, home),
    }


def _own_environment(replica: Replica, home: Home) -> dict[str, str]:
    if replica.service == "skills":
        # The mesh runs as the person at this machine, and only a tenant's administrator can make a
        # directory a workspace: the file system's own permissions are the bound here. But the home
        # holds the keys of all tenants.
        return {
            "GATHERING_WORKSPACE_ROOTS": '["/"]',
            "GATHERING_CLOSED_DIRECTORIES": json.dumps([str(home.folder.absolute())]),
        }
    if replica.service == "gateway":
        return {
            "GATHERING_HTTP_PORT": str(replica.http_port),
            "GATHERING_KEYS_DIR": str(home.keys / "users"),
        }
    if replica.service == "agent":
        path = home.keys / "providers.key"
        if not path.exists():
            write_secret(path, base64.b64encode(secrets.token_bytes(_MASTER_KEY_BYTES)))
        return {"GATHERING_AGENT_MASTER_KEY_FILE": str(path)}
    return {}


def service_part(replica: Replica, home: Home, environment: Mapping[str, str]) -> CommandPart:
    """Return a replica as a part."""
    return CommandPart(
        replica.name,
        replica.address,
        [sys.executable, "-m", f"gathering_{replica.service}"],
        environment,
        home.logs / f"{replica.name}.log",
        serving(replica.address),
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
