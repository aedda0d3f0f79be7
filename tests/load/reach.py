"""How far delivery in time goes: the most subscribers, and the most events, with p99 in bounds."""

from __future__ import annotations

from collections.abc import Sequence

from tests.load.delivery import RATE, publishing, run, subscribing
from tests.load.happenings import writer
from tests.load.plan import Plan
from tests.load.report import Row
from tests.load.system import System, opened, running

_IN_TIME = 50.0  # milliseconds, at the 99th percentile
_CROWD = 1000
_CROWDS = (100, 250, 500, 750, 1000)
_RATES = (1, 5, 10, 20, 50)


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return what one of each service reaches."""
    return await _reach(system, plan, "1 gateway")


async def of_two(plan: Plan) -> list[Row]:
    """Return what two of each service reach."""
    with running(replicas=2) as (mesh, _):
        async with opened(f"127.0.0.1:{mesh.port}") as channel:
            return await _reach(System(mesh, channel), plan, "2 gateways")


async def _reach(system: System, plan: Plan, figure: str) -> list[Row]:
    crowds = [(count, RATE) for count in _CROWDS]
    rates = [(_CROWD, rate) for rate in _RATES]
    in_time = f"with p99 under {_IN_TIME:.0f} ms"
    return [
        *await _last(system, plan, crowds, f"{figure}, {RATE:.0f}/s: gRPC subscribers {in_time}"),
        *await _last(system, plan, rates, f"{figure}, {_CROWD} gRPC subscribers: /s {in_time}"),
    ]


async def _last(
    system: System, plan: Plan, loads: Sequence[tuple[int, float]], figure: str
) -> list[Row]:
    """Raise the load until it is too much; return the last that was not, and what it took."""
    seconds = 2.0 if plan.quick else 3.0
    parts = system.pids("gateway", "edge", "memory", "postgres")
    reached, p99 = 0.0, 0.0
    varied = 0 if loads[0][0] != loads[-1][0] else 1
    async with writer(system) as db:
        for load in loads:
            count, rate = load
            opening, publisher = subscribing(system, "gRPC"), publishing(db, system)
            found = await run(count, opening, publisher, parts, seconds, rate=rate)
            p99 = p99 if reached else found.p99
            if found.share < 1 or found.p99 > _IN_TIME:
                break
            reached, p99 = load[varied], found.p99
    return [Row("reach", figure, "most", reached), Row("reach", figure, "ms p99", p99)]
