"""Composes the parts of a local mesh into stages: PostgreSQL, the services and the edge."""

import asyncio
import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gathering_local import databases
from gathering_local.addresses import ADMIN_EMAIL, HOST, TENANT
from gathering_local.edge import edge_part
from gathering_local.home import Home
from gathering_local.layout import Layout, lay_out
from gathering_local.parts import PostgresPart
from gathering_local.postgres import SUPERUSER, EmbeddedPostgres
from gathering_local.redis import redis_of
from gathering_local.supervisor import Stage, Supervisor
from gathering_local.topology import make_actor_keys, service_environment, service_part

_CONNECTIONS = 16  # of each process at most: both pools, a listener, one in reserve
_SPARE_CONNECTIONS = 220  # for people, tests and migrations


class PrepareError(Exception):
    """The database could not be made ready."""


@dataclass(frozen=True)
class _Server:
    """A PostgreSQL server: its address, and the embedded part if it is ours."""

    address: str
    part: PostgresPart | None = None
    login: str = ""

    def admin_dsn(self) -> str:
        """Return the address of our database as superuser."""
        if self.part:
            return self.part.server.dsn(SUPERUSER, databases.DATABASE)
        return f"{self.login}@{self.address}/{databases.DATABASE}"

    def mark(self, home: Home) -> Path:
        """Return the file that says how our database was prepared: each server has its own."""
        if self.part:
            return home.postgres / "prepared"  # Goes with the data.
        name = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        return home.folder / f"prepared-{name}"


def supervisor_of(
    home: Home, port: int, replicas: int = 1, *, with_redis: bool = True
) -> Supervisor:
    """Return the supervisor of a mesh whose edge listens on `port` of 127.0.0.1.

    DATABASE_URL (`postgresql://superuser:password@host:port`) and REDIS_URL take the places of the
    embedded PostgreSQL and Redis.
    """
    layout = lay_out(port, replicas)
    make_actor_keys(home)
    server, redis = _server(home, layout), redis_of(home, layout.redis, wanted=with_redis)
    roles = databases.role_addresses(home, server.address)
    environments = {
        replica.name: service_environment(replica, home, layout, roles, redis.url)
        for replica in layout.replicas
    }

    async def prepare() -> None:
        mark = server.mark(home)
        if await databases.prepare(home, server.admin_dsn(), server.address, mark):
            await _create_tenant(home, environments["gateway"])
            databases.write_mark(mark)

    services = [
        service_part(replica, home, environments[replica.name]) for replica in layout.replicas
    ]
    stages = [Stage([server.part])] if server.part else []
    optional = [redis.part] if redis.part else []
    stages.append(Stage([*optional, *services, edge_part(home, layout)], prepare))
    return Supervisor(home, f"http://{HOST}:{port}", stages)


def _server(home: Home, layout: Layout) -> _Server:
    if external := os.environ.get("DATABASE_URL"):
        login, _, address = external.rstrip("/").rpartition("@")
        if not login:
            raise PrepareError("DATABASE_URL is not postgresql://superuser:password@host:port")
        return _Server(address, login=login)
    most = str(_SPARE_CONNECTIONS + _CONNECTIONS * len(layout.replicas))
    server = EmbeddedPostgres(home.postgres, layout.postgres, {"max_connections": most})
    return _Server(f"{HOST}:{layout.postgres}", PostgresPart(server))


async def _create_tenant(home: Home, environment: Mapping[str, str]) -> None:
    arguments = ["--name", TENANT, "--email", ADMIN_EMAIL]
    arguments += ["--password-file", str(home.secret_path("admin"))]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gathering_gateway.admin", "create-tenant", *arguments),
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, output = await process.communicate()
    if process.returncode:
        raise PrepareError(f"the first tenant could not be made: {output.decode()[-2000:]}")
