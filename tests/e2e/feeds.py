"""Feeds as subscribers got them, beside the logs that they are of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import event_service_pb2
from tests.e2e.doors import Door, Heard
from tests.e2e.mesh import SERVICES
from tests.e2e.realms import SUBSCRIBE
from tests.e2e.tenants import Tenant
from tests.support.waiting import eventually

Order = dict[str, list[str]]  # ids of events by source


@dataclass
class Feed:
    """One subscriber, through one door, from the start of what is kept."""

    door: Door
    who: Tenant
    got: Order = field(default_factory=lambda: {each: [] for each in SERVICES})
    heard: Heard = field(default_factory=Heard)

    @property
    def name(self) -> str:
        """Say whose it is and through which door."""
        return f"{self.who.email} by {self.door.name}"

    async def run(self) -> None:
        """Read until cancelled."""
        request = event_service_pb2.SubscribeRequest(cursor="start")
        following: Any = self.door.follow(SUBSCRIBE, request, self.who, self.heard)
        async with aclosing(following) as frames:
            async for frame in frames:
                if frame.HasField("event"):
                    self.got[frame.event.event.source].append(frame.event.event.id)


@asynccontextmanager
async def following(*feeds: Feed) -> AsyncIterator[None]:
    """Read them within the block; none may end by itself."""
    reading = [asyncio.create_task(feed.run()) for feed in feeds]
    try:
        yield
    finally:
        for task in reading:
            task.cancel()
        ended = await asyncio.gather(*reading, return_exceptions=True)
    assert {type(each) for each in ended} == {asyncio.CancelledError}, ended


async def committed(dsn: str, who: Tenant) -> Order:
    """Return the events that are for this user, straight from the logs, in their order.

    An event with an audience is for the users in it and for administrators.
    """
    connection = await asyncpg.connect(dsn)
    try:
        return {source: await _of(connection, source, who) for source in SERVICES}
    finally:
        await connection.close()


async def _of(connection: asyncpg.Connection, source: str, who: Tenant) -> list[str]:
    query = f"select event from {source}.log where tenant_id = $1 order by position"  # noqa: S608
    rows = await connection.fetch(query, who.tenant_id)
    events = [Event.FromString(row["event"]) for row in rows]
    return [event.id for event in events if _is_for(event, who)]


def _is_for(event: Event, who: Tenant) -> bool:
    named = event.audience.user_ids
    return not named or who.user_id in named or who.administers


async def complete(feeds: Sequence[Feed], dsn: str, seconds: float = 60.0) -> list[str]:
    """Wait until each feed is what was committed; return, in words, those that are not."""
    different: list[str] = []

    async def same() -> bool:
        orders = {feed.who.email: await committed(dsn, feed.who) for feed in feeds}
        different[:] = [_told(feed, orders) for feed in feeds if feed.got != orders[feed.who.email]]
        return not different

    with suppress(AssertionError):
        await eventually(same, "feeds are complete", seconds)
    return different


def _told(feed: Feed, orders: dict[str, Order]) -> str:
    wanted, got = map(_all, (orders[feed.who.email], feed.got))
    order = "" if wanted != got else "; they are the same, in another order or more than once"
    return f"{feed.name}: missing {wanted - got}, too many {got - wanted}{order}"


def _all(order: Order) -> set[str]:
    return {event for events in order.values() for event in events}
