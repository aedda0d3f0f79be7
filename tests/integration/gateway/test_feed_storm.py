"""Subscriptions that begin and end by the hundred, at every moment of their life, leave nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from gathering.gateway.v1 import auth_service_pb2 as auth
from gathering.gateway.v1 import event_service_pb2 as events
from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, bearer, running_gateway
from tests.support.waiting import eventually
from tests.support.websockets import Client, opened

STORM = 150
_AT_ONCE = 30


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running


def left_behind(gateway: Gateway) -> dict[str, int]:
    """Return what subscriptions hold in the process."""
    return {
        "streams": gateway.app.server._pipeline._streams.count,
        "watchers": sum(len(source.watchers) for source in gateway.app.sources),
        "tasks": sum("Subscription" in repr(task.get_coro()) for task in asyncio.all_tasks()),
    }


async def by_grpc(gateway: Gateway, admin: auth.Tokens, dice: random.Random) -> None:
    """Subscribe, and hang up before, at or after the first frame."""
    request = events.SubscribeRequest(cursor="start")
    stream: Any = gateway.events.Subscribe(request, metadata=bearer(admin))
    reading = asyncio.ensure_future(stream.read())
    await asyncio.wait({reading}, timeout=dice.choice((0, 0.001, 0.01, None)))
    stream.cancel()
    await asyncio.wait({reading})
    if not reading.cancelled() and (error := reading.exception()):
        assert isinstance(error, grpc.aio.AioRpcError), error
        assert error.code() == grpc.StatusCode.CANCELLED


async def by_websocket(client: Client, dice: random.Random) -> None:
    """Subscribe and cancel on one connection, each under the same few names."""
    for n in range(STORM):
        id = str(n % _AT_ONCE)
        await client.send({"id": id, "subscribe": {"cursor": "start"}})
        if dice.random() < 0.5:
            await client.answer(id)
        await client.send({"id": id, "cancel": {}})


async def test_storm_of_subscriptions_leaves_nothing_behind(gateway: Gateway) -> None:
    admin = await gateway.admin()
    dice = random.Random(7)  # noqa: S311 (no secret)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> None:
        async with gate:
            await by_grpc(gateway, admin, dice)

    async with opened(f"127.0.0.1:{gateway.app.http.port}", admin.access_token) as client:
        await asyncio.gather(by_websocket(client, dice), *(one() for _ in range(STORM)))
        await client.send({"id": "last", "subscribe": {"cursor": "start"}})
        assert "message" in await client.answer("last"), "the connection is as good as new"

    async def nothing() -> bool:
        return not any(left_behind(gateway).values())

    await eventually(nothing, "all of it ends")
    again: Any = gateway.events.Subscribe(events.SubscribeRequest(), metadata=bearer(admin))
    assert (await again.read()).HasField("checkpoint")
    assert left_behind(gateway)["streams"] == 1, "what is counted is what is meant"
    assert left_behind(gateway)["tasks"]
    again.cancel()
