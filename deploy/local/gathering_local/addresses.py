"""Where a local mesh is and who logs in first: known without loading what it runs."""

import socket

HOST = "127.0.0.1"
DEFAULT_PORT = 8080
TENANT = "local"
ADMIN_EMAIL = "admin@localhost"


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
