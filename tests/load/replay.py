"""Replay of a stored log through the edge, beside a select of the same rows."""

from __future__ import annotations

import time
from typing import Any

import asyncpg

from gathering.gateway.v1 import event_service_pb2 as pb
from tests.load.happenings import SOURCE, TYPE, write, writer
from tests.load.plan import Plan
from tests.load.report import Row, rows
from tests.load.system import System
from tests.load.timing import Sample, Side, compare

SUBSCRIBE = "/gathering.gateway.v1.EventService/Subscribe"
EVENT_TAG = 0x0A  # first byte of a SubscribeResponse that holds an event
_EVENTS = 10_000
_BATCH = 500
_SECONDS = 60.0
_BESIDE = "a select of the same rows"
_SELECT = "select position, tenant_id, version, event, written_at from memory.log"


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return events a second of one reader from the start."""
    count = plan.count(_EVENTS)
    tenant = await system.tenant()
    async with writer(system) as db:
        for _ in range(count // _BATCH):
            await write(db, tenant, _BATCH)
    url = system.mesh.environment_of("memory")["GATHERING_SYSTEM_DATABASE_URL"]
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:

        async def bare() -> Sample:
            begun = time.perf_counter()
            found = await connection.fetch(_SELECT + " order by position limit $1", count)
            return _sample(begun, len(found))

        async def ours() -> Sample:
            return await _replay(system, count)

        sides = {"ours": Side(ours, system.pids), "bare": Side(bare, system.pids("postgres"))}
        took = await compare(sides, plan.rounds)
    finally:
        await connection.close()
    figure = f"{count} events through the edge"
    return rows("replay", figure, took["ours"], took["bare"], _BESIDE, only="per s, CPU µs each")


async def _replay(system: System, count: int) -> Sample:
    """Subscribe from the start and read so many events, as bytes."""
    wanted = pb.EventFilter(types=[TYPE], sources=[SOURCE])
    request = pb.SubscribeRequest(filter=wanted, cursor="start").SerializeToString()
    rpc: Any = system.channel.unary_stream(SUBSCRIBE)
    begun = time.perf_counter()
    stream = rpc(request, metadata=await system.metadata(), timeout=_SECONDS)
    left = count
    async for frame in stream:
        left -= frame[0] == EVENT_TAG
        if not left:
            break
    sample = _sample(begun, count)
    stream.cancel()
    return sample


def _sample(begun: float, count: int) -> Sample:
    seconds = time.perf_counter() - begun
    return Sample([seconds] * count, seconds)
