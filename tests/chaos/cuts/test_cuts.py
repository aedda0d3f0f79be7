"""Two hundred cuts at each door of the feed, by a seed that is printed (GATHERING_SEED repeats)."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from tests.chaos.cuts.doors import Door, by_client, by_grpc, by_sse, by_websocket
from tests.chaos.cuts.feeding import SERVICES, Feeding, cut_and_compare, feeding
from tests.support.fixtures import NewDatabase

CUTS = 200
_log = structlog.get_logger()


@pytest.fixture
async def feed(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Feeding]:
    async with feeding(await new_database("gateway", *SERVICES), tmp_path) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("door", [by_grpc, by_sse, by_websocket, by_client])
async def test_subscriber_who_is_cut_two_hundred_times_gets_each_event_once_and_in_order(
    feed: Feeding, door: Door
) -> None:
    seed = int(os.environ.get("GATHERING_SEED") or random.SystemRandom().randrange(2**32))
    _log.info("cuts", seed=seed, door=str(door))
    subscriber = await cut_and_compare(feed, door, seed, CUTS)
    events = sum(map(len, subscriber.got.values()))
    _log.info("cut", events=events, streams=subscriber.streams)
