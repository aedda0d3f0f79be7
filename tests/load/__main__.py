"""Run the benchmarks: `python -m tests.load [--only NAME] [--quick] [--save]`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import uvloop

from tests.load import chats, delivery, edge, filters, hop, recall, replay, startup, turns
from tests.load.children import child
from tests.load.plan import Plan
from tests.load.report import Row, put_into_page, render, save
from tests.load.system import System, opened, running

_ALONE: Mapping[str, Callable[[Plan], Awaitable[list[Row]]]] = {
    "hop": hop.measure,
    "startup": startup.measure,
}
_IN_MESH: Mapping[str, Callable[[System, Plan], Awaitable[list[Row]]]] = {
    "edge": edge.measure,
    "filters": filters.measure,
    "turns": turns.measure,
    "chats": chats.measure,
    "delivery": delivery.measure,
    "replay": replay.measure,
    "recall": recall.measure,
}
_NAMES = (*_ALONE, *_IN_MESH)
_LONGEST_SECONDS = 1500.0
_MODELS = '[{"name": "model-1000"}, {"name": "model-200"}]'


async def _run(names: list[str], plan: Plan) -> list[Row]:
    found: list[Row] = []
    for name in names:
        if name in _ALONE:
            found += await _told(name, _ALONE[name](plan))
    inside = [name for name in names if name in _IN_MESH]
    if inside:
        async with child("provider") as provider:
            found += await _in_mesh(inside, plan, provider.address)
    return found


async def _bounded(work: Coroutine[Any, Any, list[Row]]) -> list[Row]:
    """Bound it by time, and let a SIGTERM end it as an interrupt does: with the mesh taken down."""
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncio.timeout(_LONGEST_SECONDS):
        return await task


async def _in_mesh(names: list[str], plan: Plan, provider: str) -> list[Row]:
    found: list[Row] = []
    environment = {
        "OPENAI_API_KEY": "bench",
        "OPENAI_BASE_URL": f"http://{provider}/v1",
        "GATHERING_AGENT_OPENAI_MODELS": _MODELS,
        "GATHERING_AGENT_DEFAULT_MODEL": "offline",
    }
    with running(environment) as (mesh, _):
        async with opened(f"127.0.0.1:{mesh.port}") as channel:
            system = System(mesh, channel, provider)
            for name in names:
                found += await _told(name, _IN_MESH[name](system, plan))
    return found


async def _told(name: str, measured: Awaitable[list[Row]]) -> list[Row]:
    begun = time.monotonic()
    found = await measured
    sys.stderr.write(f"  {name:<10} {time.monotonic() - begun:5.0f} s\n")
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=_NAMES, action="append", help="one measure")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, less work in each")
    parser.add_argument("--save", action="store_true", help="write the page in docs as well")
    return parser.parse_args()


def main() -> None:
    """Measure, print the table, keep it."""
    given = _arguments()
    begun = time.monotonic()
    names = [name for name in _NAMES if not given.only or name in given.only]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(_bounded(_run(names, Plan(given.quick))))
    command = " ".join(
        [
            "make bench",
            *(f"ONLY={name}" for name in given.only or ()),
            *(["QUICK=1"] * given.quick),
        ]
    )
    text = render(found, command, time.monotonic() - begun)
    sys.stdout.write(f"\n{text}\n")
    sys.stderr.write(f"kept as {save(found, text)}\n")
    if given.save:
        put_into_page(text)


if __name__ == "__main__":
    main()
