"""Whom an entry of a log wakes, and whose place moves on asleep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from gathering.events.v1 import event_log_service_pb2 as pb
from gathering_gateway.client_event_log import FollowedLog
from gathering_gateway.models_feed import Place, Watcher
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.log_rows import Position

SOURCE, EPOCH = "probe", "e1"


def entry(position: int, tenant: str) -> pb.TailResponse:
    frame = pb.TailResponse(entry=pb.LogEntry(tenant_id=tenant))
    frame.entry.event.epoch, frame.entry.event.position = EPOCH, position
    return frame


def gap(position: int) -> pb.TailResponse:
    return pb.TailResponse(gap=pb.LogGap(resume=pb.LogPosition(epoch=EPOCH, position=position)))


async def followed(watcher: Watcher, *frames: pb.TailResponse) -> FollowedLog:
    """Follow a log of these frames; the watcher comes after the first of them."""
    ended = asyncio.Event()

    async def tail(_: Position | None) -> AsyncGenerator[pb.TailResponse, None]:
        yield frames[0]
        log.watchers.add(watcher)
        for frame in frames[1:]:
            yield frame
        ended.set()
        await asyncio.Event().wait()

    log = FollowedLog(SOURCE, tail, 16)
    running = asyncio.create_task(log.run())
    await ended.wait()
    running.cancel()
    await asyncio.wait({running})
    return log


def watcher(position: int) -> Watcher:
    only = EventFilter(tenant="ten_mine")
    return Watcher(asyncio.Event(), only, {SOURCE: Place(EPOCH, position)})


async def test_watcher_at_the_head_sleeps_over_what_is_not_its_own() -> None:
    mine = watcher(1)
    log = await followed(mine, entry(1, "ten_mine"), entry(2, "ten_other"), entry(3, "ten_other"))
    assert not mine.wake.is_set()
    assert mine.places[SOURCE] == log.head == Place(EPOCH, 3)


async def test_watcher_is_woken_for_its_own_and_moves_itself() -> None:
    mine = watcher(1)
    frames = entry(1, "ten_mine"), entry(2, "ten_mine"), entry(3, "ten_other")
    await followed(mine, *frames)
    assert mine.wake.is_set()
    assert mine.places[SOURCE] == Place(EPOCH, 1)


async def test_watcher_that_is_behind_is_woken_and_passes_nothing_over() -> None:
    mine = watcher(0)
    await followed(mine, entry(1, "ten_mine"), entry(2, "ten_other"))
    assert mine.wake.is_set()
    assert mine.places[SOURCE] == Place(EPOCH, 0)


async def test_gap_of_one_entry_wakes_and_is_not_passed_over() -> None:
    mine = watcher(1)
    await followed(mine, entry(1, "ten_mine"), gap(2))
    assert mine.wake.is_set()
    assert mine.places[SOURCE] == Place(EPOCH, 1)
