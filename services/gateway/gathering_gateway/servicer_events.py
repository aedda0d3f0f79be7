"""Serves `EventService`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from gathering.gateway.v1 import event_service_pb2 as pb
from gathering_gateway import convert_events as convert
from gathering_gateway.feed import Feed
from gathering_mesh.call import Call
from gathering_mesh.streams import Encoded


@dataclass(frozen=True, slots=True)
class EventServicer:
    """Converts, calls the feed, converts."""

    feed: Feed

    async def Subscribe(
        self, request: pb.SubscribeRequest, call: Call
    ) -> AsyncIterator[pb.SubscribeResponse | Encoded]:
        """Stream the feed."""
        frames = self.feed.subscribe(call, convert.wanted(request.filter), request.cursor)
        async with aclosing(frames):
            async for frame in frames:
                yield convert.frame_message(frame)

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        """List stored events."""
        wanted = convert.wanted(request.filter)
        page = await self.feed.page(call, wanted, request.cursor, request.page_size)
        return convert.page_message(page)
