"""The other side of a benchmark, as a process: `python -m tests.load.servers <kind>`.

Each kind prints one line of JSON when it serves and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import uvloop

from gathering_mesh import telemetry
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.load.fanout import fan_out
from tests.load.provider import provider
from tests.support.probe import Authority, Probe, contract, message, response

ECHO = "/bare.Echo/Echo"
_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
Told = Mapping[str, Any]


@asynccontextmanager
async def _bare(handlers: grpc.GenericRpcHandler) -> AsyncIterator[Told]:
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield {"port": port}
    await server.stop(0)


@asynccontextmanager
async def _echo() -> AsyncIterator[Told]:
    """Send back the bytes that came."""

    async def same(request: bytes, _: object) -> bytes:
        return request

    method: Any = grpc.unary_unary_rpc_method_handler(same)
    async with _bare(grpc.method_handlers_generic_handler("bare.Echo", {"Echo": method})) as told:
        yield told


@asynccontextmanager
async def _probe_bare() -> AsyncIterator[Told]:
    """Serve the probe's Echo with nothing but grpc.aio."""

    async def echo(request: Any, _: object) -> Any:
        return response(request.text)

    method: Any = grpc.unary_unary_rpc_method_handler(
        echo,
        request_deserializer=message("EchoRequest").FromString,
        response_serializer=message("EchoResponse").SerializeToString,
    )
    service = contract().services_by_name["ProbeService"].full_name
    async with _bare(grpc.method_handlers_generic_handler(service, {"Echo": method})) as told:
        yield told


@asynccontextmanager
async def _probe() -> AsyncIterator[Told]:
    """Serve the probe's Echo with the mesh: tokens, bounds, errors, a log line to a file."""
    authority = Authority()
    server = GrpcServer(ServerSettings(), authority.authenticator())
    server.add(contract().services_by_name["ProbeService"], Probe())
    with tempfile.TemporaryFile("w") as log:
        telemetry.configure("probe", "info", as_json=True, stream=log)
        await server.start()
        yield {"port": server.port, "token": authority.user(lifetime=3600)}
        await server.stop(0)


_KINDS: Mapping[str, Callable[..., Any]] = {
    "echo": _echo,
    "probe": _probe,
    "probe-bare": _probe_bare,
    "provider": provider,
    "fan-out": fan_out,
}


async def _serve(kind: str, arguments: list[str]) -> None:
    async with _KINDS[kind](*arguments) as told:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        await _closed_input()


async def _closed_input() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1], sys.argv[2:]))
