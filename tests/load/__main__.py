"""Run the benchmarks: `python -m tests.load [--only NAME] [--quick] [--save]`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import uvloop

from tests.load import (
    chats,
    delivery,
    edge,
    filters,
    hop,
    reach,
    recall,
    replay,
    startup,
    turns,
)
from tests.load.children import child
from tests.load.plan import Plan
from tests.load.report import Row, put_into_page, render, save
from tests.load.system import System, opened, running

_ALONE: Mapping[str, Callable[[Plan], Awaitable[list[Row]]]] = {
    "hop": hop.measure,
    "startup": startup.measure,
    "reach-2": reach.of_two,
}
_IN_MESH: Mapping[str, Callable[[System, Plan], Awaitable[list[Row]]]] = {
    "edge": edge.measure,
    "filters": filters.measure,
    "turns": turns.measure,
    "chats": chats.measure,
    "delivery": delivery.to_streams,
    "delivery-ws": delivery.to_sockets,
    "reach": reach.measure,
    "replay": replay.measure,
    "recall": recall.measure,
}
_NAMES = (*_ALONE, *_IN_MESH)
_LONGEST_SECONDS = 1500.0  # after which no further measure begins
_LONGEST_MEASURE = 300.0
_MODELS = '[{"name": "model-1000"}, {"name": "model-200"}]'


@dataclass
class _Run:
    """What was found; a measure that fails says why, and the others go on."""

    plan: Plan
    begun: float = field(default_factory=time.monotonic)
    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    async def measure(self, names: list[str]) -> None:
        """Run these measures, one mesh for all that need one."""
        for name in names:
            if name in _ALONE:
                await self._take(name, _ALONE[name](self.plan))
        inside = [name for name in names if name in _IN_MESH]
        if inside:
            try:
                await self._in_mesh(inside)
            except Exception as error:
                self._note("the mesh", error)

    async def _in_mesh(self, names: list[str]) -> None:
        async with child("provider") as provider:
            environment = {
                "OPENAI_API_KEY": "bench",
                "OPENAI_BASE_URL": f"http://{provider.address}/v1",
                "GATHERING_AGENT_OPENAI_MODELS": _MODELS,
                "GATHERING_AGENT_DEFAULT_MODEL": "offline",
            }
            with running(environment) as (mesh, _):
                async with opened(f"127.0.0.1:{mesh.port}") as channel:
                    system = System(mesh, channel, provider.address)
                    for name in names:
                        await self._take(name, _IN_MESH[name](system, self.plan))

    async def _take(self, name: str, measured: Awaitable[list[Row]]) -> None:
        begun = time.monotonic()
        left = self.begun + _LONGEST_SECONDS - begun
        try:
            async with asyncio.timeout(min(left, _LONGEST_MEASURE)):
                self.rows += await measured
        except Exception as error:
            self._note(name, error)
        sys.stderr.write(f"  {name:<11} {time.monotonic() - begun:5.0f} s\n")

    def _note(self, name: str, error: Exception) -> None:
        """Keep why a measure failed, and tell all of it now."""
        traceback.print_exception(error)
        lines = str(error).strip().splitlines() or ["it took too long"]
        self.failed[name] = f"{type(error).__name__}: {lines[-1]}"


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Let a SIGTERM end it as an interrupt does: with the mesh taken down."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await task


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=_NAMES, action="append", help="one measure")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less work in each")
    parser.add_argument("--save", action="store_true", help="write the page in docs as well")
    return parser.parse_args()


def main() -> int:
    """Measure, print the table, keep it; 1 where a measure failed."""
    given = _arguments()
    names = [name for name in _NAMES if not given.only or name in given.only]
    run, stopped = _Run(Plan(given.quick)), False
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_until_stopped(run.measure(names)))
        except (asyncio.CancelledError, KeyboardInterrupt):
            stopped = True
    command = " ".join(
        [
            "make bench",
            *(f"ONLY={name}" for name in given.only or ()),
            *(["QUICK=1"] * given.quick),
        ]
    )
    text = render(run.rows, command, time.monotonic() - run.begun, run.failed)
    sys.stdout.write(f"\n{text}\n")
    sys.stderr.write(f"kept as {save(run.rows, text)}\n")
    if given.save and not stopped:
        put_into_page(text)
    return 1 if run.failed or stopped else 0


if __name__ == "__main__":
    sys.exit(main())
