"""Where a local mesh is and who logs in first: known without loading what it runs."""

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

HOST = "127.0.0.1"
DEFAULT_PORT = 8080
TENANT = "local"
ADMIN_EMAIL = "admin@localhost"


_LOWEST = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 100


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return so many different ports of 127.0.0.1 that nobody listens on now.

    They lie below those that the kernel gives to whoever connects: a part of the mesh that is
    started again finds its port free.
    """
    with ExitStack() as held:  # All are held until the last is found, or one could come twice.
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            _bind(probe)
        return [int(probe.getsockname()[1]) for probe in probes]


def _bind(probe: socket.socket) -> None:
    highest = _first_ephemeral() - 1
    for _ in range(_TRIES if highest > _LOWEST else 0):
        with suppress(OSError):
            return probe.bind((HOST, random.randint(_LOWEST, highest)))  # noqa: S311 (no secret)
    return probe.bind((HOST, 0))


def _first_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except OSError:  # not Linux
        return 0
