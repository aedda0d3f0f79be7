"""What each filter of the edge costs: the CPU of Envoy for a call, with and without the filter."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

from gathering_local.addresses import free_port
from tests.load.bare_envoy import Config, envoy
from tests.load.http1 import Connection, connections, get
from tests.load.plan import Plan
from tests.load.report import Row
from tests.load.system import System
from tests.load.timing import Side, compare, loop

_PATH = "/v1/models"
_KEPT = ("router", "transcoder", "server_sent_events")  # without these there is no answer
_AT_ONCE = 8
_START_SECONDS = 30.0


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return Envoy's CPU for a REST call as it is, and without each of its filters."""
    whole: Config = json.loads((system.mesh.home.run / "envoy.json").read_text())
    request = get(_PATH, dict(await system.metadata()))
    async with AsyncExitStack() as stack:
        sides: dict[str, Side] = {}
        for name, config in _variants(whole):
            port = free_port()
            _address(config)["port_value"] = port
            pid = await stack.enter_async_context(envoy(config, port))
            held = await stack.enter_async_context(connections(f"127.0.0.1:{port}", _AT_ONCE))
            await _answering(held[0], request)
            sides[name] = Side(_calls(held, request, plan.count(800)), [pid])
        took = await compare(sides, plan.rounds)
    everything = took.pop("")
    return [
        Row("edge, filters", f"without {name}", "CPU µs each", everything.cpu, found.cpu, "so")
        for name, found in took.items()
    ]


async def _answering(connection: Connection, request: bytes) -> None:
    """Wait until tokens are verified: the keys come a second after the port."""
    async with asyncio.timeout(_START_SECONDS):
        while True:
            try:
                await connection.send(request)
            except RuntimeError:
                await asyncio.sleep(0.1)
            else:
                return


def _calls(held: list[Connection], request: bytes, count: int) -> Any:
    async def send(place: int) -> bytes:
        return await held[place].send(request)

    return loop(send, count, _AT_ONCE)


def _variants(whole: Config) -> Iterator[tuple[str, Config]]:
    """Yield the configuration as it is (without a name) and without each filter."""
    plain = copy.deepcopy(whole)
    plain.pop("admin", None)
    yield "", copy.deepcopy(plain)
    for place, found in enumerate(_manager(plain)["http_filters"]):
        if not any(kept in found["name"] for kept in _KEPT):
            without = copy.deepcopy(plain)
            del _manager(without)["http_filters"][place]
            yield found["name"].removeprefix("envoy.filters.http."), without


def _manager(config: Config) -> Config:
    listener = config["static_resources"]["listeners"][0]
    manager: Config = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def _address(config: Config) -> Config:
    address: Config = config["static_resources"]["listeners"][0]["address"]["socket_address"]
    return address
