"""From an event's publication to its delivery to many subscribers, beside a bare fan-out."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

from gathering.gateway.v1 import event_service_pb2 as pb
from gathering_mesh.postgres import Database
from tests.load import fanout
from tests.load.children import child
from tests.load.happenings import SOURCE, TYPE, happening, writer
from tests.load.http2 import Stream, streams
from tests.load.plan import Plan
from tests.load.replay import EVENT_TAG, SUBSCRIBE
from tests.load.report import Row
from tests.load.sockets import Socket, sockets
from tests.load.system import System
from tests.load.timing import cpu_seconds, quantile

RATE = 50.0
_OPEN_SECONDS = 60.0
_LATE_SECONDS = 20.0
_EVENT = b'"event"'
_SUBSCRIBERS = (1, 100, 1000)
Open = Callable[..., AbstractAsyncContextManager[Callable[[], str]]]
Publish = Callable[[], Awaitable[None]]


@dataclass
class Crowd:
    """What subscribers have received: the n-th event of each is the n-th that was published."""

    size: int
    sent: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    greeted: set[int] = field(default_factory=set)
    received: list[int] = field(default_factory=list)
    example: bytes = b""

    def __post_init__(self) -> None:
        self.received = [0] * self.size

    def greet(self, number: int) -> None:
        """Note that a subscriber follows."""
        self.greeted.add(number)

    def take(self, number: int, message: bytes, now: float) -> None:
        """Note an event."""
        place = self.received[number]
        self.received[number] = place + 1
        self.latencies.append(now - self.sent[place])
        self.example = message

    def message(self, number: int, message: bytes, now: float) -> None:
        """Take a message of gRPC: an event, or a checkpoint that greets."""
        if message[:1] == bytes([EVENT_TAG]):
            self.take(number, message, now)
        else:
            self.greet(number)

    def text(self, number: int, message: bytes, now: float) -> None:
        """Take a frame of a WebSocket."""
        if _EVENT in message:
            self.take(number, message, now)
        else:
            self.greet(number)


@dataclass(frozen=True)
class Result:
    share: float  # of the deliveries that came within the time
    p50: float
    p99: float
    cpu: float
    example: bytes


async def to_streams(system: System, plan: Plan) -> list[Row]:
    """Return publication to delivery for 1, 100 and 1,000 gRPC streams."""
    return await _measured(system, plan, "gRPC")


async def to_sockets(system: System, plan: Plan) -> list[Row]:
    """Return publication to delivery for 1, 100 and 1,000 WebSockets."""
    return await _measured(system, plan, "WebSocket")


async def _measured(system: System, plan: Plan, door: str) -> list[Row]:
    found: list[Row] = []
    seconds = 2.0 if plan.quick else 6.0
    parts = system.pids("gateway", "edge", "memory", "postgres")
    async with writer(system) as db:
        for count in _SUBSCRIBERS:
            opened = subscribing(system, door)
            ours = await run(count, opened, publishing(db, system), parts, seconds)
            bare = await _bare(door, count, ours.example, seconds)
            figure = f"{count} {door} subscribers, {RATE:.0f}/s"
            found += _rows(figure, ours, bare, door)
            sys.stderr.write(f"    {figure}: p99 {ours.p99:.1f} ms, bare {bare.p99:.1f} ms\n")
    return found


def _rows(figure: str, ours: Result, bare: Result, door: str) -> list[Row]:
    beside = "bare grpc.aio streams" if door == "gRPC" else "the websockets library's broadcast"
    pairs = {
        "share": (ours.share, bare.share),
        "ms p50": (ours.p50, bare.p50),
        "ms p99": (ours.p99, bare.p99),
        "CPU µs each": (ours.cpu, bare.cpu),
    }
    return [Row("publish to delivery", figure, unit, *pair, beside) for unit, pair in pairs.items()]


def subscribing(system: System, door: str) -> Open:
    """Return what subscribes through the edge."""
    wanted = pb.EventFilter(types=[TYPE], sources=[SOURCE])

    @asynccontextmanager
    async def open_(count: int, crowd: Crowd) -> AsyncIterator[Callable[[], str]]:
        metadata = await system.metadata()
        if door == "gRPC":
            request = pb.SubscribeRequest(filter=wanted).SerializeToString()
            opening = streams(
                system.edge, Stream(SUBSCRIBE, request, metadata), count, crowd.message
            )
        else:
            call = {"filter": {"types": [TYPE], "sources": [SOURCE]}}
            first = json.dumps({"id": "1", "subscribe": call}).encode()
            opening = sockets(system.edge, Socket("/ws", first, dict(metadata)), count, crowd.text)
        async with opening as problem:
            yield problem

    return open_


def publishing(db: Database, system: System) -> Callable[[Crowd], Publish]:
    """Return what commits an event that a crowd gets."""

    def for_crowd(crowd: Crowd) -> Publish:
        async def publish() -> None:
            async with db.transaction(await system.tenant()) as tx:
                tx.emit(*happening())
                crowd.sent.append(time.perf_counter())

        return publish

    return for_crowd


async def _bare(door: str, count: int, example: bytes, seconds: float) -> Result:
    sent = base64.b64encode(example).decode()
    message, text = (sent, "") if door == "gRPC" else ("", sent)
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(child("fan-out", message, text))
        loop = asyncio.get_running_loop()
        hub, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("127.0.0.1", bare.told["datagrams"])
        )
        stack.callback(hub.close)

        @asynccontextmanager
        async def open_(count: int, crowd: Crowd) -> AsyncIterator[Callable[[], str]]:
            if door == "gRPC":
                opening = streams(bare.address, Stream(fanout.PATH, b""), count, crowd.message)
            else:
                address = f"127.0.0.1:{bare.told['sockets']}"
                opening = sockets(address, Socket("/", b""), count, crowd.text)
            async with opening as problem:
                yield problem

        def for_crowd(crowd: Crowd) -> Publish:
            async def publish() -> None:
                crowd.sent.append(time.perf_counter())
                hub.sendto(b"1")

            return publish

        return await run(count, open_, for_crowd, [bare.pid], seconds)


async def run(
    count: int,
    opened: Open,
    publisher: Callable[[Crowd], Publish],
    pids: list[int],
    seconds: float,
    *,
    rate: float = RATE,
) -> Result:
    """Publish for some seconds to so many subscribers."""
    crowd = Crowd(count)
    publish = publisher(crowd)
    async with opened(count, crowd) as problem:
        await _until(lambda: len(crowd.greeted) == count, problem, _OPEN_SECONDS)
        before = cpu_seconds(pids)
        events = round(seconds * rate)
        begun = time.perf_counter()
        for number in range(events):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            await publish()
        with suppress(TimeoutError):  # told in the table
            await _until(lambda: len(crowd.latencies) == events * count, problem, _LATE_SECONDS)
        spent = cpu_seconds(pids) - before
    if not crowd.latencies:
        raise RuntimeError("nothing was delivered")
    return Result(
        len(crowd.latencies) / (events * count),
        quantile(crowd.latencies, 0.5) * 1000,
        quantile(crowd.latencies, 0.99) * 1000,
        spent / len(crowd.latencies) * 1e6,
        crowd.example,
    )


async def _until(condition: Callable[[], bool], problem: Callable[[], str], seconds: float) -> None:
    """Wait for the crowd; a stream that ended is an error at once."""
    async with asyncio.timeout(seconds):
        while not condition():
            if found := problem():
                raise RuntimeError(found)
            await asyncio.sleep(0.02)
