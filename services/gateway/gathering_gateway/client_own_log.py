"""Read this service's own log where a channel to a service is asked for, without a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import grpc

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.eventlog import EventLog
from gathering_mesh.log_rows import Position


class OwnLog:
    """Passes for a channel whose only RPC is `EventLogService.Tail`."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    @classmethod
    def channel(cls, log: EventLog) -> grpc.aio.Channel:
        """Return it as what a consumer takes."""
        return cast("grpc.aio.Channel", cls(log))

    def unary_stream(self, *method: object, **options: object) -> Callable[..., _Reading]:
        """Return what makes a stream of a request."""

        def tail(request: pb.TailRequest, **metadata: object) -> _Reading:
            after = Position(request.after.epoch, request.after.position)
            only = EventFilter(types=frozenset(request.types))
            return _Reading(self._log.tail(after, None, only))

        return tail


class _Reading:
    """A stream as its reader knows it."""

    def __init__(self, frames: AsyncIterator[Any]) -> None:
        self._frames = frames

    async def read(self) -> object:
        """Return the next frame."""
        return await anext(self._frames, grpc.aio.EOF)

    def cancel(self) -> None:
        """Let go; the log closes what nobody reads."""
