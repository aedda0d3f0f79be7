"""Run a local mesh in the foreground: `python -m gathering_local --home FOLDER --port PORT`."""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from gathering_local.addresses import DEFAULT_PORT
from gathering_local.home import Home, default_home
from gathering_local.layout import MOST_REPLICAS
from gathering_local.mesh import supervisor_of
from gathering_local.supervisor import ALREADY_RUNNING, AlreadyRunning, end_leftovers, hold


def main() -> int:
    """Read the arguments and run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="gathering_local", description=__doc__)
    parser.add_argument("--home", type=Path, default=default_home(), help="folder of all data")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="of the edge")
    parser.add_argument(
        "--replicas",
        type=int,
        choices=range(1, MOST_REPLICAS + 1),
        default=1,
        help="of each service",
    )
    parser.add_argument("--no-redis", action="store_true", help="whole steps instead of deltas")
    arguments = parser.parse_args()
    _share_cores()
    try:
        asyncio.run(_run(arguments))
    except AlreadyRunning:
        sys.stderr.write("another mesh runs from this folder\n")
        return ALREADY_RUNNING
    return 0


def _share_cores() -> None:
    """Let no part that wakes interrupt another at work; what waits is then done several at once.

    All parts inherit it. Many processes on few cores otherwise spend much of their time on
    changing places (see `docs/benchmarks.md`).
    """
    if sys.platform == "linux":
        with suppress(OSError):  # where the system does not allow it, they are as others
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _run(arguments: argparse.Namespace) -> None:
    home = Home(arguments.home.absolute())
    hold(home)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await end_leftovers(home)
    supervisor = supervisor_of(
        home, arguments.port, arguments.replicas, with_redis=not arguments.no_redis
    )
    try:
        await supervisor.run(stop)
    except Exception as error:
        supervisor.fail(f"{type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    sys.exit(main())
