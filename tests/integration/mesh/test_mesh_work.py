"""The claim loop of one process: due, done, again, failed, cancelled, drained."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from gathering_mesh.errors import NotFound
from gathering_mesh.postgres import Database
from gathering_mesh.work import Lease, LeaseLost
from tests.support.waiting import eventually
from tests.support.working import has_length, is_in, none_left, rows, schedule, working


async def test_scheduled_work_starts_at_once_and_is_gone_when_done(db: Database) -> None:
    began: dict[str, float] = {}

    async def handle(lease: Lease) -> None:
        began[lease.id] = time.monotonic()
        assert (lease.tenant, lease.kind, lease.attempt) == ("ten_a", "hold", 1)

    async with working(db, handle, poll=60.0):
        delays = []
        for n in range(10):
            await schedule(db, f"w{n}")
            committed = time.monotonic()
            await eventually(lambda n=n: is_in(f"w{n}", began))  # type: ignore[misc]
            delays.append(began[f"w{n}"] - committed)
        await eventually(lambda: none_left(db))
    assert sorted(delays)[5] < 0.1  # polling would take a minute


async def test_work_waits_for_its_time(db: Database) -> None:
    began = []

    async def handle(lease: Lease) -> None:
        began.append(time.monotonic())

    async with working(db, handle, poll=60.0):
        begun = time.monotonic()
        await schedule(db, "w", after=0.3)
        await eventually(lambda: none_left(db))
    assert 0.25 < began[0] - begun < 2.0


async def test_idle_work_is_moved_earlier_and_later(db: Database) -> None:
    await schedule(db, "w", after=3600)
    await schedule(db, "w", after=7200)
    assert (await rows(db))["w"]["due_at"] > datetime.now(UTC) + timedelta(seconds=7000)
    await schedule(db, "w", after=0)
    assert (await rows(db))["w"]["due_at"] <= datetime.now(UTC) + timedelta(seconds=1)


async def test_unscheduled_work_does_not_run(db: Database) -> None:
    await schedule(db, "w")
    async with db.transaction("ten_a") as tx:
        await tx.unschedule("hold", "w")
    assert await none_left(db)


async def test_effect_and_end_of_work_commit_together(db: Database) -> None:
    attempts = []

    async def handle(lease: Lease) -> None:
        attempts.append(lease.attempt)
        async with lease.transaction() as tx:
            await tx.run("insert into thing (tenant_id, id, name) values ('ten_a', 'x', 'x')")
            await lease.done(tx)
            if len(attempts) == 1:
                raise NotFound("after all")

    async with working(db, handle):
        await schedule(db, "w")
        await eventually(lambda: none_left(db))
    assert attempts == [1, 2]  # the first insert was rolled back, or the second would fail


async def test_failed_work_is_tried_again_later_and_keeps_its_error(db: Database) -> None:
    attempts = []

    async def handle(lease: Lease) -> None:
        attempts.append(lease.attempt)
        raise NotFound(f"try {lease.attempt}")

    async def failed_twice() -> bool:
        return str((await rows(db))["w"]["last_error"]) == "NotFound: try 3"

    async with working(db, handle):
        await schedule(db, "w")
        await eventually(failed_twice)
    assert attempts[:3] == [1, 2, 3]


async def test_pause_grows_with_the_attempts(db: Database) -> None:
    began = []

    async def handle(lease: Lease) -> None:
        began.append(time.monotonic())
        if len(began) < 4:
            raise NotFound("again")

    async with working(db, handle, retry_first=0.1, retry_most=60.0):
        await schedule(db, "w")
        await eventually(lambda: none_left(db))
    assert began[3] - began[2] >= 0.2  # 0.4 s with a jitter of a half


async def test_failed_work_with_a_latest_time_is_tried_again_then(db: Database) -> None:
    began: list[datetime] = []
    latest = datetime.now(UTC) + timedelta(seconds=0.5)

    async def handle(lease: Lease) -> None:
        began.append(datetime.now(UTC))
        lease.due_by = latest
        if len(began) == 1 or began[-1] < latest:
            raise NotFound("again")

    async with working(db, handle, retry_first=60.0, retry_most=60.0):
        await schedule(db, "w")
        await eventually(lambda: none_left(db))
    assert latest <= began[-1] < latest + timedelta(seconds=2)


async def test_latest_time_that_is_over_shortens_no_pause(db: Database) -> None:
    async def handle(lease: Lease) -> None:
        lease.due_by = datetime.now(UTC)
        raise NotFound("again")

    async def waits() -> bool:
        row = (await rows(db))["w"]
        return row["owner"] is None and row["due_at"] > datetime.now(UTC) + timedelta(seconds=20)

    async with working(db, handle, retry_first=60.0, retry_most=60.0):
        await schedule(db, "w")
        await eventually(waits)


async def test_work_made_due_again_runs_again_with_its_attempts_anew(db: Database) -> None:
    attempts = []

    async def handle(lease: Lease) -> None:
        attempts.append(lease.attempt)
        async with lease.transaction() as tx:
            if len(attempts) < 3:
                await lease.again(tx)
            else:
                await lease.done(tx)

    async with working(db, handle):
        await schedule(db, "w")
        await eventually(lambda: none_left(db))
    assert attempts == [1, 1, 1]


async def test_work_made_due_after_a_while_counts_from_the_databases_clock(db: Database) -> None:
    async def handle(lease: Lease) -> None:
        async with lease.transaction() as tx:
            await lease.again(tx, timedelta(hours=1))

    async with working(db, handle):
        await schedule(db, "w")
        await eventually(lambda: is_due_in_an_hour(db))
    await schedule(db, "v", after=3600)
    assert await is_due_in_an_hour(db)


async def is_due_in_an_hour(db: Database) -> bool:
    """Tell whether all work is due then, give or take a minute, by the database's own count."""
    async with db.system() as tx:
        seconds = await tx.fetch("select extract(epoch from due_at - now()) as s from work")
    return all(3540 < row["s"] <= 3600 for row in seconds)


async def test_signal_to_running_work_is_not_lost(db: Database) -> None:
    runs = 0
    began, go_on = asyncio.Event(), asyncio.Event()

    async def handle(lease: Lease) -> None:
        nonlocal runs
        runs += 1
        began.set()
        await go_on.wait()
        async with lease.transaction() as tx:
            await lease.done(tx)

    async with working(db, handle):
        await schedule(db, "w")
        await began.wait()
        await schedule(db, "w")
        await schedule(db, "w", after=3600)  # the earliest counts
        go_on.set()
        await eventually(lambda: none_left(db))
    assert runs == 2


async def test_deleted_work_cancels_its_handler(db: Database) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(lease: Lease) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            with pytest.raises(LeaseLost):
                async with lease.transaction():
                    pytest.fail("the lease is gone")
            cancelled.set()
            raise

    async with working(db, handle):
        await schedule(db, "w")
        await began.wait()
        async with db.transaction("ten_a") as tx:
            await tx.unschedule("hold", "w")
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_row_that_is_made_anew_does_not_let_its_old_holder_in(db: Database) -> None:
    leases = []
    go_on = asyncio.Event()

    async def handle(lease: Lease) -> None:
        leases.append(lease)
        await go_on.wait()

    async with working(db, handle, lease=60.0):
        await schedule(db, "w")
        await eventually(lambda: has_length(leases, 1))
        async with db.transaction("ten_a") as tx:
            await tx.unschedule("hold", "w")
        await schedule(db, "w")
        await eventually(lambda: has_length(leases, 2))
        with pytest.raises(LeaseLost):
            async with leases[0].transaction():
                pytest.fail("this is the old fence")
        async with leases[1].transaction():
            pass
        go_on.set()
