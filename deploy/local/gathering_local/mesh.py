"""Composes the parts of a local mesh into stages: PostgreSQL, the services, the edge."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import httpx

from gathering_local import databases
from gathering_local.home import Home
from gathering_local.parts import CommandPart, PostgresPart, Probe
from gathering_local.postgres import SUPERUSER, EmbeddedPostgres
from gathering_local.supervisor import Stage, Supervisor
from gathering_local.topology import (
    HOST,
    SERVICES,
    Ports,
    make_actor_keys,
    service_environment,
    service_part,
)

DEFAULT_PORT = 8080
TENANT = "local"
ADMIN_EMAIL = "admin@localhost"


def supervisor_of(home: Home, port: int) -> Supervisor:
    """Return the supervisor of a mesh whose edge listens on `port` of 127.0.0.1.

    DATABASE_URL (of a superuser, without a database's name) takes the place of the embedded
    PostgreSQL.
    """
    ports = Ports(edge=port)
    make_actor_keys(home)
    external = os.environ.get("DATABASE_URL")
    stages = []
    if external:
        admin, address = external.rstrip("/"), external.rpartition("@")[2].strip("/")
    else:
        server = EmbeddedPostgres(home.postgres, ports.postgres)
        stages.append(Stage([PostgresPart(server)]))
        admin, address = "", f"{HOST}:{ports.postgres}"
    roles = databases.role_addresses(home, address)

    async def prepare() -> None:
        root = admin or _embedded_admin(home, ports)
        await databases.prepare(home, f"{root}/{databases.DATABASE}", address)

    environments = {
        service: service_environment(service, home, ports, roles) for service in SERVICES
    }
    services = [service_part(name, home, ports, environments[name]) for name in SERVICES]
    stages.append(Stage([*services, _edge(home, ports)], prepare))
    stages.append(Stage([], first_login(home, environments["gateway"])))
    return Supervisor(home, f"http://{HOST}:{port}", stages)
