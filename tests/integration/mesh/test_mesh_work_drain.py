"""The claim loop of one process: limits, renewals, drain."""

import asyncio
from datetime import UTC, datetime

from gathering_mesh.call import Call, Principal
from gathering_mesh.postgres import Database
from gathering_mesh.work import HandOver, Lease
from tests.support.happenings import MemoryForgotten
from tests.support.waiting import eventually
from tests.support.working import none_left, rows, schedule, working


async def test_no_more_run_at_once_than_the_kind_allows(db: Database) -> None:
    running = most = 0

    async def handle(lease: Lease) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1

    async with working(db, handle, concurrency_of={"hold": 3}):
        await schedule(db, *(f"w{n}" for n in range(20)))
        await eventually(lambda: none_left(db))
    assert most == 3


async def test_lease_is_renewed_for_as_long_as_the_work_runs(db: Database) -> None:
    runs = 0

    async def handle(lease: Lease) -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(1.2)

    async with working(db, handle, lease=0.3), working(db, handle, lease=0.3):
        await schedule(db, "w")
        await eventually(lambda: none_left(db))
    assert runs == 1


async def test_renewal_goes_past_a_transaction_of_the_holder(db: Database) -> None:
    ended = []

    async def handle(lease: Lease) -> None:
        if lease.id == "long":
            async with lease.transaction() as tx:
                await tx.run("select pg_sleep(1.0)")
                await lease.done(tx)
        else:
            await asyncio.sleep(1.0)
        ended.append((lease.id, lease.attempt))

    async with working(db, handle, lease=0.4), working(db, handle, lease=0.4):
        await schedule(db, "long", "other")
        await eventually(lambda: none_left(db))
    assert sorted(ended) == [("long", 1), ("other", 1)]


async def test_drain_hands_work_over_as_if_it_had_not_been_tried(db: Database) -> None:
    began = asyncio.Event()

    async def handle(lease: Lease) -> None:
        began.set()
        await asyncio.sleep(60)

    async with working(db, handle, lease=60.0):
        await schedule(db, "w")
        await began.wait()
    row = (await rows(db))["w"]
    assert (row["owner"], row["lease_until"], row["attempt"]) == (None, None, 0)
    assert row["due_at"] <= datetime.now(UTC)
    async with db.system() as tx:
        assert await tx.fetch("select * from replica") == []


async def test_drain_lets_short_work_end(db: Database) -> None:
    began = asyncio.Event()

    async def handle(lease: Lease) -> None:
        began.set()
        await asyncio.sleep(0.2)

    async with working(db, handle, drain=5.0):
        await schedule(db, "w")
        await began.wait()
    assert await none_left(db)


async def test_draining_handler_may_stop_at_a_good_place(db: Database) -> None:
    began = asyncio.Event()

    async def handle(lease: Lease) -> None:
        began.set()
        while not lease.draining:  # noqa: ASYNC110 - as a handler does, between its steps
            await asyncio.sleep(0.01)
        raise HandOver

    async with working(db, handle, drain=5.0):
        await schedule(db, "w")
        await began.wait()
    assert ((await rows(db))["w"]["owner"], (await rows(db))["w"]["attempt"]) == (None, 0)


async def test_events_of_work_for_a_call_name_its_user(db: Database) -> None:
    call = Call(Principal("ten_a", "usr_1", frozenset(), "member"), "m")

    async def handle(lease: Lease) -> None:
        async with lease.transaction(call) as tx:
            tx.emit("x", MemoryForgotten("x"))
            await lease.done(tx)

    async with working(db, handle):
        await schedule(db, "w")
        await eventually(lambda: none_left(db))
    async with db.system() as tx:
        event = await tx.fetch_value("select event from outbox")
    assert b"usr_1" in event
