"""A call through the edge, by gRPC and by REST, beside the service alone and beside bare Envoy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from tests.load.bare_envoy import BareEnvoy, bare_envoy
from tests.load.http1 import Connection, connections, get
from tests.load.plan import Plan
from tests.load.report import Row, rows
from tests.load.system import System, opened, raw, same
from tests.load.timing import Figure, Sample, Side, compare, loop

_SERVICE = "gathering.agent.v1.ModelService"
_GRPC = f"/{_SERVICE}/ListModels"  # reads no database: what is measured is the way
_REST = "/v1/models"
_ROUTER, _TRANSCODER, _ALONE = "bare Envoy: router", "bare Envoy: transcoder", "the service alone"
_LOADS = ((1, 400), (16, 1200))
Run = Callable[[], Awaitable[Sample]]


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return the figures of one call at a time and of 16, and Envoy's CPU for each."""
    async with bare_envoy(system.mesh.address("agent"), [_SERVICE]) as bare:
        return [
            *await _grpc(system, bare, plan),
            *await _rest(system, bare, plan),
        ]


async def _grpc(system: System, bare: BareEnvoy, plan: Plan) -> list[Row]:
    found: list[Row] = []
    metadata = await system.metadata()
    async with (
        opened(system.edge) as edge,
        opened(bare.grpc) as router,
        opened(system.mesh.address("agent")) as alone,
    ):
        calls = {"edge": edge, "bare": router, "alone": alone}
        for at_once, count in _LOADS:
            runs: dict[str, Run] = {}
            for name, channel in calls.items():
                call = raw(channel, _GRPC, metadata)
                runs[name] = loop(same(call, b""), plan.count(count), at_once)
            took = await compare(_sides(runs, system, bare), plan.rounds)
            found += _rows("edge, gRPC", at_once, took, _ROUTER)
    return found


async def _rest(system: System, bare: BareEnvoy, plan: Plan) -> list[Row]:
    found: list[Row] = []
    request = get(_REST, dict(await system.metadata()))
    for at_once, count in _LOADS:
        async with (
            connections(system.edge, at_once) as edge,
            connections(bare.rest, at_once) as transcoder,
        ):
            runs = {
                name: loop(_sending(held, request), plan.count(count), at_once)
                for name, held in (("edge", edge), ("bare", transcoder))
            }
            took = await compare(_sides(runs, system, bare), plan.rounds)
        found += _rows("edge, REST", at_once, took, _TRANSCODER)
    return found


def _sending(held: Sequence[Connection], request: bytes) -> Callable[[int], Awaitable[bytes]]:
    def work(place: int) -> Awaitable[bytes]:
        return held[place].send(request)

    return work


def _sides(runs: dict[str, Run], system: System, bare: BareEnvoy) -> dict[str, Side]:
    pids = {"edge": system.pids("edge"), "bare": [bare.pid], "alone": system.pids("agent")}
    return {name: Side(run, pids[name]) for name, run in runs.items()}


def _rows(measure: str, at_once: int, took: dict[str, Figure], beside: str) -> list[Row]:
    figure = f"{at_once} at once"
    units = "ms p50, ms p99" if at_once == 1 else "per s, ms p99"
    found = rows(measure, figure, took["edge"], took["bare"], beside, only=units)
    cpu = Row(
        measure,
        f"{figure}, Envoy alone",
        "CPU µs each",
        took["edge"].cpu,
        took["bare"].cpu,
        beside,
    )
    found.append(cpu)
    if "alone" in took:
        found += rows(measure, figure, took["edge"], took["alone"], _ALONE, only=units[:6])
    return found
