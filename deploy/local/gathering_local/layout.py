"""Where each part of a local mesh listens in one run; a part that is started again stays there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gathering_local.addresses import HOST, free_ports

SERVICES = ("memory", "skills", "agent", "orchestrator", "gateway")
MOST_REPLICAS = 8


@dataclass(frozen=True)
class Replica:
    """One process of a service; `number` begins with 1."""

    service: str
    number: int
    port: int
    http_port: int  # Only the gateway listens there.

    @property
    def name(self) -> str:
        """The name by which people know it: `agent`, `agent-2`, ..."""
        return self.service if self.number == 1 else f"{self.service}-{self.number}"

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return f"{HOST}:{self.port}"

    @property
    def http_address(self) -> str:
        """Where it serves HTTP."""
        return f"{HOST}:{self.http_port}"


@dataclass(frozen=True)
class Layout:
    """All replicas and ports."""

    edge: int
    postgres: int
    redis: int
    replicas: Sequence[Replica]

    def of(self, service: str) -> list[Replica]:
        """Return the replicas of a service."""
        return [replica for replica in self.replicas if replica.service == service]

    def addresses(self, service: str) -> str:
        """Return the addresses of a service as peers and edge take them."""
        return ",".join(replica.address for replica in self.of(service))

    def http_addresses(self) -> list[str]:
        """Return the addresses of the gateway's HTTP side."""
        return [replica.http_address for replica in self.of("gateway")]


def lay_out(edge: int, replicas: int) -> Layout:
    """Choose free ports for so many replicas of each service."""
    postgres, redis, *ports = free_ports(2 + 2 * replicas * len(SERVICES))
    pairs = iter(zip(ports[::2], ports[1::2], strict=True))
    made = [
        Replica(service, number + 1, *next(pairs))
        for number in range(replicas)
        for service in SERVICES
    ]
    return Layout(edge, postgres, redis, made)


def service_of(part: str) -> str:
    """Return the service that a part's name belongs to; empty if it is none's."""
    service, _, number = part.partition("-")
    return service if service in SERVICES and (not number or number.isdigit()) else ""
