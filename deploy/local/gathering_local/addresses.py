"""Where a local mesh is and who logs in first: known without loading what it runs."""

import socket
from contextlib import ExitStack

HOST = "127.0.0.1"
DEFAULT_PORT = 8080
TENANT = "local"
ADMIN_EMAIL = "admin@localhost"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return so many different ports of 127.0.0.1 that nobody listens on now."""
    with ExitStack() as held:  # All are held until the last is found, or one could come twice.
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
