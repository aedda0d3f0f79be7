"""Thirty cuts at each door of the feed, with the same seed each time; `make soak` makes more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.cuts.doors import Door, by_client, by_grpc, by_sse, by_websocket
from tests.chaos.cuts.feeding import SERVICES, Feeding, cut_and_compare, feeding
from tests.support.fixtures import NewDatabase

CUTS = 30


@pytest.fixture
async def feed(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Feeding]:
    async with feeding(await new_database("gateway", *SERVICES), tmp_path) as running:
        yield running


@pytest.mark.parametrize("door", [by_grpc, by_sse, by_websocket])
async def test_subscriber_who_is_cut_gets_each_event_once_and_in_order(
    feed: Feeding, door: Door
) -> None:
    subscriber = await cut_and_compare(feed, door, seed=1, cuts=CUTS)
    assert subscriber.streams > CUTS


async def test_python_client_goes_on_by_itself_when_it_is_cut(feed: Feeding) -> None:
    subscriber = await cut_and_compare(feed, by_client, seed=2, cuts=CUTS)
    assert subscriber.streams == 1
