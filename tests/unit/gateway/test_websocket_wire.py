"""The wire of a WebSocket: what a client can make the server hold is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from gathering_gateway.websocket.servicer_protocol import BoundedProtocol
from tests.support.waiting import eventually

TEXT, CONTINUED, CLOSE, PING = 1, 0, 8, 9
LAST = 0x80
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
App = Callable[[Any, Any, Any], Awaitable[None]]


class Impatient(BoundedProtocol):
    """Waits shortly."""

    flush_seconds = 0.1


@dataclass
class Wire:
    """A client of bytes, and the server's side of the connection."""

    client: socket.socket
    server: BoundedProtocol

    async def send(self, data: bytes) -> None:
        """Send all, or as much as is taken before the connection ends."""
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    def unread(self) -> int:
        """Return what the server holds for the client."""
        return int(self.server.transport.get_write_buffer_size())


async def until(condition: Callable[[], bool]) -> None:
    """Return once something holds."""

    async def holds() -> bool:
        return condition()

    await eventually(holds)


def frame(kind: int, content: bytes = b"", first: int = LAST) -> bytes:
    """Return a client's frame; the mask of zeros changes nothing."""
    size = len(content)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return bytes([first | kind]) + length + bytes(4) + content


@asynccontextmanager
async def wired(app: App) -> AsyncIterator[Wire]:
    """Open a WebSocket to an application, by a socket that takes little."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws_per_message_deflate=False)
    config.load()
    made: list[BoundedProtocol] = []

    def protocol() -> BoundedProtocol:
        made.append(Impatient(config, ServerState(), {}))
        return made[-1]

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(protocol, "127.0.0.1", 0)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    try:
        await loop.sock_connect(client, listening.sockets[0].getsockname())
        await loop.sock_sendall(client, HANDSHAKE)
        assert b" 101 " in await loop.sock_recv(client, 1000)
        yield Wire(client, made[0])
    finally:
        client.close()
        listening.close()
        if not made[0].disconnected:
            made[0].transport.abort()
        await until(lambda: made[0].disconnected)


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and send back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def deaf(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and read nothing."""
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


async def flooding(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and leave once the client is seen not to read."""
    await receive()
    await send({"type": "websocket.accept"})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            while True:
                await send({"type": "websocket.send", "text": "x" * 100_000})


async def test_pings_of_a_client_that_reads_no_pong_grow_nothing() -> None:
    pings = frame(PING, os.urandom(125)) * 500
    async with wired(reading) as wire:
        for _ in range(200):  # 13 MB; the system's own buffers take some of the answers
            await wire.send(pings)
        await until(lambda: not wire.server.writable.is_set())
        assert wire.unread() < 1_000_000


async def test_message_of_thousands_of_empty_fragments_is_one_piece() -> None:
    async with wired(reading) as wire:
        await wire.send(frame(TEXT, b"whole", first=0))
        await wire.send(frame(CONTINUED, first=0) * 20_000)
        await wire.send(frame(CONTINUED, b", all the same"))
        found = await asyncio.get_running_loop().sock_recv(wire.client, 1000)
        assert found[2:] == b"whole, all the same"


async def test_fragments_that_never_end_are_not_kept_one_by_one() -> None:
    async with wired(reading) as wire:
        await wire.send(frame(TEXT, b"x", first=0))
        await wire.send(frame(CONTINUED, b"x", first=0) * 20_000)
        await until(lambda: sum(map(len, wire.server.frames)) == 20_001)
        assert len(wire.server.frames) == 1


async def test_messages_that_are_not_taken_wait_as_bytes() -> None:
    async with wired(deaf) as wire:
        await wire.send(frame(TEXT, b"x") * 5_000)
        await until(lambda: wire.server.read_paused)
        assert wire.server.queue.qsize() < 1_000


async def test_messages_behind_many_others_come_in_order() -> None:
    async with wired(reading) as wire:
        await wire.send(b"".join(frame(TEXT, b"%05d" % number) for number in range(3_000)))
        found = b""
        while len(found) < 3_000 * 7:
            found += await asyncio.get_running_loop().sock_recv(wire.client, 65_536)
        answers = [found[at + 2 : at + 7] for at in range(0, len(found), 7)]
        assert answers == [b"%05d" % number for number in range(3_000)]


async def test_connection_that_ended_is_given_up_though_its_client_never_reads() -> None:
    async with wired(flooding) as wire:
        await until(lambda: wire.server.disconnected)
