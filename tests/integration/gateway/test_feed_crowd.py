"""A slow subscriber among fast and quiet ones; tests/chaos has a thousand and weighs the memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.cuts.crowd import Crowd, Load, Quiet, Reader, Scene
from tests.chaos.cuts.doors import Door, by_grpc, by_sse, by_websocket
from tests.chaos.cuts.feeding import SERVICES, Feeding, feeding
from tests.support.fixtures import NewDatabase

QUIET = 50
LOAD = Load(events=150, bytes=2_000, rate=100)
TENTH = 0.1  # seconds: ten events a second


@pytest.fixture
async def feed(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Feeding]:
    """A feed that keeps few entries in memory, so that whoever is slow reads from the logs."""
    database = await new_database("gateway", *SERVICES)
    async with feeding(database, tmp_path, ring_entries=32) as running:
        yield running


@pytest.mark.parametrize("door", [by_grpc, by_sse, by_websocket])
async def test_slow_subscriber_loses_nothing_and_holds_up_neither_others_nor_health(
    feed: Feeding, door: Door
) -> None:
    logs = {name: service.db for name, service in feed.services.items()}
    scene = Scene(feed.port, feed.member, feed.edge.channel, logs)
    slow, fast = Reader(door, TENTH), (Reader(by_grpc), Reader(by_sse))
    crowd = Crowd(fast, (slow,), Quiet(QUIET))
    behind: list[int] = []
    await crowd.live(scene, LOAD, stands=lambda: None, behind=lambda: behind.append(slow.count))
    assert behind[0] < slow.count
