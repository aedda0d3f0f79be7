"""The bare twin of the feed: whatever comes by datagram goes to every stream and every socket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
from websockets.asyncio.server import ServerConnection, broadcast, serve

PATH = "/bare.Fan/Out"


class _Hub(asyncio.DatagramProtocol):
    def __init__(self, message: bytes, text: str) -> None:
        self._message = message
        self._text = text
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._sockets: set[ServerConnection] = set()

    def datagram_received(self, data: bytes, addr: object) -> None:
        for queue in self._queues:
            queue.put_nowait(self._message)
        broadcast(self._sockets, self._text)

    async def out(self, _: bytes, context: Any) -> None:
        """Send each message to a stream."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)
        try:
            await context.write(b"")
            while True:
                await context.write(await queue.get())
        finally:
            self._queues.discard(queue)

    async def socket(self, connection: ServerConnection) -> None:
        """Keep a socket among those that are sent to."""
        await connection.send("{}")
        self._sockets.add(connection)
        try:
            await connection.wait_closed()
        finally:
            self._sockets.discard(connection)


@asynccontextmanager
async def fan_out(message: str, text: str) -> AsyncIterator[Mapping[str, Any]]:
    """Serve both; the arguments are what is sent, in base 64."""
    hub = _Hub(base64.b64decode(message), base64.b64decode(text).decode())
    method: Any = grpc.unary_stream_rpc_method_handler(hub.out)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bare.Fan", {"Out": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: hub, ("127.0.0.1", 0))
    async with serve(hub.socket, "127.0.0.1", 0, compression=None) as sockets:
        yield {
            "port": port,
            "datagrams": transport.get_extra_info("sockname")[1],
            "sockets": next(iter(sockets.sockets)).getsockname()[1],
        }
    transport.close()
    await server.stop(0)
