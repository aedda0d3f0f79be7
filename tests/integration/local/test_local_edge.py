"""The edge of a local mesh, before a gateway of the test: how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gathering_local.addresses import free_port
from gathering_local.edge import EdgePart, edge_part
from gathering_local.home import Home
from gathering_local.layout import lay_out
from tests.support.waiting import eventually

SLOW = "/openapi.json"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Upstream:
    """Answers at once, and one path only when it is told to."""

    def __init__(self) -> None:
        self.asked, self.told = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes on a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.split()[1] == SLOW.encode():
                    self.asked.set()
                    await self.told.wait()
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@pytest.fixture
def upstream() -> Upstream:
    """Return what stands for the gateway."""
    return Upstream()


@pytest.fixture
async def part(tmp_path: Path, upstream: Upstream) -> AsyncIterator[EdgePart]:
    """Return a running edge before it."""
    layout = lay_out(free_port(), 1)
    host, _, port = layout.http_addresses()[0].rpartition(":")
    server = await asyncio.start_server(upstream.serve, host, int(port))
    made = edge_part(Home(tmp_path / "home"), layout)
    await made.start()
    await made.ready()
    yield made
    upstream.told.set()
    await made.stop()
    server.close()


@pytest.fixture
async def http(part: EdgePart) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of it that makes a connection for each request."""
    limits = httpx.Limits(max_keepalive_connections=0)
    url = f"http://{part.address}"
    async with httpx.AsyncClient(
        base_url=url, trust_env=False, timeout=30, limits=limits
    ) as client:
        yield client


async def test_request_that_is_open_is_answered_before_the_edge_ends(
    part: EdgePart, http: httpx.AsyncClient, upstream: Upstream
) -> None:
    open_one = asyncio.create_task(http.get(SLOW))
    await upstream.asked.wait()
    stopping = asyncio.create_task(part.stop())

    async def closed() -> bool:
        try:
            await http.get("/healthz")
        except httpx.ConnectError:
            return True
        return False

    await eventually(closed, "an edge that takes no more connections")
    upstream.told.set()
    assert (await open_one).json() == {}
    await stopping
    assert await part.wait() == 0


async def test_request_that_does_not_end_does_not_keep_the_edge(
    part: EdgePart, http: httpx.AsyncClient, upstream: Upstream
) -> None:
    open_one = asyncio.create_task(http.get(SLOW))
    await upstream.asked.wait()
    await part.stop()
    assert part.pid is None
    with pytest.raises(httpx.TransportError):
        await open_one


def test_admin_is_for_the_owner_and_left_out_where_its_path_is_too_long(tmp_path: Path) -> None:
    layout = lay_out(free_port(), 1)
    home = Home(tmp_path / "home")
    admin = edge_part(home, layout).admin
    assert admin is not None
    assert admin.parent.stat().st_mode & 0o777 == 0o700
    assert edge_part(Home(tmp_path / ("x" * 100)), layout).admin is None
