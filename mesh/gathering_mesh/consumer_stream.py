"""The log of another service as a consumer reads it: what concerns it, and how far that is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import grpc

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering.events.v1 import event_log_service_pb2_grpc, event_pb2
from gathering_mesh.errors import Unavailable
from gathering_mesh.log_frames import parted
from gathering_mesh.log_rows import Position
from gathering_mesh.status import from_rpc_error

Concerns = Callable[[event_pb2.Event], bool]
Outgoing = Callable[[], Mapping[str, Any]]


@dataclass
class LogReader:
    """Reads the log of one service; see `Consumer`. Times in seconds."""

    source: str
    channel: grpc.aio.Channel
    types: Sequence[str]
    outgoing: Outgoing
    concerns: Concerns | None
    _: KW_ONLY
    silence: float
    pass_seconds: float
    _passed: float = 0.0  # time.monotonic() of the last note of what concerned nobody

    async def frames(self, start: Position) -> AsyncGenerator[pb.TailResponse, None]:
        """Yield frames after a place until the stream ends; Unavailable where it is silent."""
        after = pb.LogPosition(epoch=start.epoch, position=start.position)
        request = pb.TailRequest(after=after, types=self.types, together=True)
        stub = event_log_service_pb2_grpc.EventLogServiceStub(self.channel)
        stream = stub.Tail(request, metadata=self.outgoing().get("metadata"))
        try:
            while True:
                async with asyncio.timeout(self.silence):
                    frame = await stream.read()
                if not isinstance(frame, pb.TailResponse):
                    return  # the end
                for one in parted(frame):
                    if (taken := self._taken(one)) is not None:
                        yield taken
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.source) from error
        except TimeoutError as error:
            raise Unavailable(f"the log of {self.source} is silent") from error
        finally:
            stream.cancel()

    def _taken(self, frame: pb.TailResponse) -> pb.TailResponse | None:
        """Return what to take of a frame: of what concerns nobody, now and then its place."""
        if self.concerns is None or not frame.HasField("entry"):
            return frame
        event, now = frame.entry.event, time.monotonic()
        if self.concerns(event):
            return frame
        if now - self._passed < self.pass_seconds:
            return None
        self._passed = now
        at = pb.LogPosition(epoch=event.epoch, position=event.position)
        return pb.TailResponse(head=pb.LogHead(position=at))
