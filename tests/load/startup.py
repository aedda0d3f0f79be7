"""Start-up of the whole and memory of each process, beside a bare gRPC server in Python."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.e2e.mesh import LocalMesh
from tests.load.children import child
from tests.load.plan import Plan
from tests.load.report import Row
from tests.load.system import family, running, start

_BARE = "a bare grpc.aio server"
_MEBIBYTE = 1024
_LONGEST_SECONDS = 150.0  # after which no larger mesh is started


async def measure(plan: Plan) -> list[Row]:
    """Return the seconds of the first and the second start and the MiB of each part."""
    begun = time.monotonic()
    async with child("echo") as bare:
        bare_seconds = time.monotonic() - begun
        bare_memory = _memory([bare.pid])
    found: list[Row] = []
    for replicas in (1,) if plan.quick else (1, 2):
        if time.monotonic() - begun > _LONGEST_SECONDS:
            sys.stderr.write(f"  too slow here: start with {replicas} of each left out\n")
            break
        figure = f"{replicas} of each service"
        with running(replicas=replicas) as (mesh, first):
            mesh.down()
            restarted = time.monotonic()
            start(mesh, replicas)
            again = time.monotonic() - restarted
            for what, seconds in (("first start", first), ("start", again)):
                found.append(Row("start", f"{figure}, {what}", "s", seconds, bare_seconds, _BARE))
            found += _parts(mesh, figure, bare_memory)
    return found


def _parts(mesh: LocalMesh, figure: str, bare: tuple[float, float]) -> list[Row]:
    found, whole = [], 0.0
    for part in mesh.status.parts:
        resident, proportional = _memory(family(part.pid))
        whole += proportional
        row = Row("memory", f"{figure}, {part.name}", "MiB PSS", proportional, bare[1], _BARE)
        found.append(row)
        found.append(Row("memory", f"{figure}, {part.name}", "MiB RSS", resident, bare[0], _BARE))
    return [*found, Row("memory", f"{figure}, all", "MiB PSS", whole)]


def _memory(pids: list[int]) -> tuple[float, float]:
    """Return MiB: resident, and resident with what is shared divided among its users."""
    sums = {"Rss": 0.0, "Pss": 0.0}
    for pid in pids:
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) / _MEBIBYTE
    return sums["Rss"], sums["Pss"]
