"""Run a service as a process: signals, readiness, drain, exit codes."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, Protocol, TypeVar, runtime_checkable

import structlog
import uvloop

from gathering_mesh import telemetry
from gathering_mesh.loops import failing
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServiceSettings

_log = structlog.get_logger("gathering_mesh.process")
_HURRY = 1.0  # seconds for calls in flight when the process has to go at once
# New objects before a collection looks at them, and how many of those before an older generation's:
# with Python's 700 a twelfth of a chat's CPU goes to looking at what calls in flight still hold.
_COLLECT = (20_000, 20, 20)


class App(Protocol):
    """What a composition root yields."""

    @property
    def server(self) -> GrpcServer:
        """The server with its services added."""


@runtime_checkable
class Background(Protocol):
    """An app with work of its own (loops, consumers, publishers)."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Work until cancelled; returning or raising before ends the process with an error."""


S = TypeVar("S", bound=ServiceSettings)
OpenApp = Callable[[S], AbstractAsyncContextManager[App]]


class BackgroundEndedError(RuntimeError):
    """Background work came to an end by itself; a supervisor has to start the process again."""


def run(open_app: OpenApp[S], settings: S) -> NoReturn:
    """Serve until SIGTERM or SIGINT, drain, and exit: 0 when told to, 1 after a failure."""
    telemetry.configure(settings.service, settings.log_level, as_json=settings.log_json)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_until_signal(open_app, settings))
    except BaseException as error:
        _log.critical("ended", exc_info=error)
        sys.exit(1)
    _log.info("stopped")
    sys.exit(0)


async def _until_signal(open_app: OpenApp[S], settings: S) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await serve(open_app, settings, stopping)


async def serve(open_app: OpenApp[S], settings: S, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set, then drain; raise what background work raises.

    Drain: not ready, wait for routers to notice, streams are asked to end, calls in flight get
    `drain_seconds`, background work is cancelled last (calls may still need it).
    """
    async with open_app(settings) as app:
        background = asyncio.create_task(_background(app))
        told = asyncio.create_task(stopping.wait())
        watch = asyncio.create_task(watch_loops(app.server))
        grace = _HURRY
        try:
            await app.server.start()
            _freeze()
            _log.info("serving", port=app.server.port, services=app.server.services)
            await asyncio.wait({background, told}, return_when=asyncio.FIRST_COMPLETED)
            if not background.done():
                grace = settings.drain_seconds
                await _leave_rotation(app.server, settings.not_ready_seconds, background)
        finally:
            await app.server.stop(grace)
            told.cancel()
            watch.cancel()
            background.cancel()
            await asyncio.wait({background, told, watch})
        if not background.cancelled():
            background.result()


def _freeze() -> None:
    """Leave what the process is made of out of all garbage collections to come; have fewer.

    A full one looks at every object while nothing else runs: some 60 ms with an SDK in memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


async def watch_loops(server: GrpcServer, after: float = 15.0, every: float = 1.0) -> None:
    """Report loops that have failed for `after` seconds, and that they go on, until cancelled."""
    told: list[str] = []
    while True:
        found = failing.longer_than(after)
        if bool(found) != bool(told):
            server.report_loops(going=not found)
            _log.warning("background work", failing=found)
        told = found
        await asyncio.sleep(every)


async def _leave_rotation(
    server: GrpcServer, seconds: float, background: asyncio.Task[None]
) -> None:
    await server.not_ready()
    _log.info("draining")
    if seconds:
        await asyncio.wait({background}, timeout=seconds)


async def _background(app: App) -> None:
    if not isinstance(app, Background):
        await asyncio.Event().wait()
        return
    await app.run()
    raise BackgroundEndedError(f"the background work of {type(app).__name__} ended by itself")
