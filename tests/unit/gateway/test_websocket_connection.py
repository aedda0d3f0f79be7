"""A connection between a client and services that the test plays: what waits for whom."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gathering_gateway.websocket import convert
from gathering_gateway.websocket.models import Gone, Limits, Visitor
from gathering_gateway.websocket.servicer_connection import Connection
from gathering_mesh.call import Closing

VISITOR = Visitor("usr_1", "token", time.time() + 600, "req_1", "")


class PlayedClient:
    """A client that sends what the test says, and reads when the test lets it."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[str | None] = asyncio.Queue()
        self.reads = asyncio.Semaphore(0)
        self.got: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.changed = asyncio.Event()

    async def receive(self) -> str | bytes:
        found = await self.says.get()
        if found is None:
            raise Gone
        return found

    async def send(self, text: str) -> None:
        await self.reads.acquire()
        self.got.append(json.loads(text))
        self.changed.set()

    async def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    async def has(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many frames came."""
        while len(self.got) < count:
            self.changed.clear()
            await self.changed.wait()
        return self.got


class PlayedServices:
    """Endless streams that count what was taken from each."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.ended: set[str] = set()

    async def answers(
        self, visitor: Visitor, id: str, request: Any, request_id: str
    ) -> AsyncGenerator[str, None]:
        """Yield for ever."""
        self.taken[id] = 0
        try:
            while True:
                self.taken[id] += 1
                yield convert.end_text(f"{id} {self.taken[id]}")
        finally:
            self.ended.add(id)


@asynccontextmanager
async def serving(
    client: PlayedClient, services: PlayedServices, draining: Closing, **limits: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """Serve the client while the block runs."""
    connection = Connection(client, VISITOR, services.answers, Limits(**limits))
    task = asyncio.create_task(connection.serve(draining))
    try:
        yield task
    finally:
        client.says.put_nowait(None)
        client.reads.release()
        await task


def subscribe(id: str) -> str:
    return json.dumps({"id": id, "subscribe": {}})


async def turns() -> None:
    """Let everybody else do all that can be done without the test."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_stream_of_a_client_that_does_not_read_is_not_read_either() -> None:
    client, services = PlayedClient(), PlayedServices()
    async with serving(client, services, Closing()):
        client.says.put_nowait(subscribe("a"))
        client.says.put_nowait(subscribe("b"))
        await turns()
        assert services.taken == {"a": 1, "b": 1}
        for _ in range(10):
            client.reads.release()
        await client.has(10)
        await turns()
        assert sum(services.taken.values()) == 12, "one of each waits to be sent, and no more"
        assert min(services.taken.values()) >= 4, "streams take turns"
    assert services.ended == {"a", "b"}


async def test_server_that_drains_does_not_wait_for_a_client_that_does_not_read() -> None:
    client, services, draining = PlayedClient(), PlayedServices(), Closing()
    async with serving(client, services, draining, goodbye_seconds=0.05) as task:
        client.says.put_nowait(subscribe("a"))
        await turns()
        draining.close("DRAINING")
        await task
    assert services.ended == {"a"}
    assert client.closed is None, "it was just left"


async def test_cancelled_call_gets_one_last_frame_whatever_it_was_doing() -> None:
    client, services = PlayedClient(), PlayedServices()
    async with serving(client, services, Closing()):
        client.says.put_nowait(subscribe("a"))
        await turns()
        client.says.put_nowait('{"id": "a", "cancel": {}}')
        client.says.put_nowait('{"id": "a", "cancel": {}}')
        await turns()
        for _ in range(5):
            client.reads.release()
        await turns()
    (last,) = client.got
    assert (last["id"], last["error"]["code"]) == ("a", 1)
    assert services.ended == {"a"}
