"""Work whose holder is killed, frozen or cut off: taken over once, late enough, and fenced."""

import asyncio
import signal
import socket
import time
from pathlib import Path

from gathering_local.postgres import EmbeddedPostgres
from gathering_mesh.migration import bootstrap, migrate
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.work import Lease
from tests.support.postgres import TestDatabase
from tests.support.processes import replica
from tests.support.waiting import eventually
from tests.support.working import has_length, is_in, none_left, schedule, working

LEASE = 1.0
LONG = 5.0  # where a busy machine must not be taken for a lease that ran out


async def effect(db: Database, thing: str) -> int:
    async with db.transaction("ten_a") as tx:
        found = await tx.fetch_value("select n from thing where id = $1", thing)
        return int(found or 0)


async def test_work_of_a_killed_replica_is_taken_over_after_its_lease(
    db: Database, probe: TestDatabase
) -> None:
    hold = {"lease": LEASE, "seconds": 60.0}
    await schedule(db, "w")
    async with replica("worker", probe, replica="first", **hold) as first:
        began = (await first.says("began w")).split()
        async with replica("worker", probe, replica="second", **hold | {"seconds": 0.0}) as second:
            await first.end()
            killed = time.monotonic()
            taken = (await second.says("began w")).split()
            waited = time.monotonic() - killed
            await second.says("ended w")
    assert waited > LEASE / 2  # what was left of the lease, at least
    assert int(taken[2]) > int(began[2])  # the fence
    assert (began[3], taken[3]) == ("1", "2")  # the attempt
    assert await effect(db, "w") == 1
    assert await none_left(db)


async def test_frozen_holder_that_wakes_up_is_refused_by_its_fence(
    db: Database, probe: TestDatabase
) -> None:
    await schedule(db, "w")
    hold = {"lease": LEASE}
    # It wakes up while it holds, is cancelled, does not listen, and meets the fence.
    async with replica("worker", probe, replica="zombie", seconds=60.0, **hold) as zombie:
        await zombie.says("began w")
        zombie.send(signal.SIGSTOP)
        async with replica("worker", probe, replica="heir", seconds=2.0, **hold) as heir:
            await heir.says("began w")
            zombie.send(signal.SIGCONT)
            await zombie.says("refused w")
            await heir.says("ended w")
        assert not [line for line in zombie.lines if line.startswith("ended")]
    assert await effect(db, "w") == 1


async def test_late_holder_keeps_what_nobody_took(db: Database, probe: TestDatabase) -> None:
    await schedule(db, "w")
    async with replica("worker", probe, replica="late", seconds=3.5, lease=LEASE) as late:
        await late.says("began w")
        late.send(signal.SIGSTOP)
        await asyncio.sleep(2 * LEASE)  # the time that the test is about
        late.send(signal.SIGCONT)
        await late.says("ended w")
    assert await effect(db, "w") == 1


async def test_nobody_takes_over_in_its_own_first_lease(db: Database) -> None:
    await schedule(db, "w")
    async with db.system() as tx:  # held by one that died long ago
        await tx.run("update work set owner = 'gone', lease_until = now() - interval '1 hour'")
    taken: list[float] = []

    async def handle(lease: Lease) -> None:
        taken.append(time.monotonic())

    begun = time.monotonic()
    async with working(db, handle, lease=LONG, poll=0.05):
        await schedule(db, "free")
        await eventually(lambda: has_length(taken, 1))
        assert taken[0] - begun < LONG  # free work does not wait for the lease
        await eventually(lambda: has_length(taken, 2))
    assert taken[1] - begun >= LONG


async def test_outage_of_the_database_moves_no_work(tmp_path: Path) -> None:
    """Both replicas are cut off for longer than a lease; the holder keeps its work."""
    server = EmbeddedPostgres(tmp_path / "postgres", port=free_port())
    await server.start()
    try:
        database = await new_database(server)
        async with (
            Database.open(database, schema="probe") as db,
            Database.open(database, schema="probe") as other,
        ):
            await outage(server, db, other)
    finally:
        await server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def new_database(server: EmbeddedPostgres) -> DatabaseSettings:
    passwords = dict.fromkeys(("probe", "probe_sys", "probe_mig"), "secret")
    await bootstrap(server.dsn("postgres", "mesh"), "probe", passwords)
    await migrate(
        server.dsn("probe_mig", "mesh", "secret"), "tests.support.probe_migrations", "probe"
    )
    return DatabaseSettings(
        server.dsn("probe", "mesh", "secret"), server.dsn("probe_sys", "mesh", "secret")
    )


async def outage(server: EmbeddedPostgres, db: Database, other: Database) -> None:
    began: list[str] = []
    go_on = asyncio.Event()

    async def handle(lease: Lease) -> None:
        began.append(lease.id)
        await go_on.wait()
        async with lease.transaction() as tx:
            await tx.run("insert into thing (tenant_id, id, name) values ('ten_a', 'x', 'x')")
            await lease.done(tx)

    async with working(db, handle, lease=LEASE, poll=0.05):
        await schedule(db, "w")
        await eventually(lambda: is_in("w", began))
        async with working(other, handle, lease=LEASE, poll=0.05):
            await asyncio.sleep(1.2 * LEASE)  # now the other could take over
            await server.stop()
            await asyncio.sleep(1.5 * LEASE)
            await server.start()
            await asyncio.sleep(1.5 * LEASE)
            go_on.set()
            await eventually(lambda: none_left(db))
    assert began == ["w"]


async def test_strict_work_stops_before_its_lease_ends_if_it_cannot_be_renewed(
    db: Database, probe: TestDatabase
) -> None:
    stopped: list[float] = []
    began = asyncio.Event()

    async def handle(lease: Lease) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(time.monotonic())

    async with (
        working(db, handle, lease=LONG, poll=0.05, strict=frozenset({"hold"})),
        probe.server.admin(probe.name) as admin,
    ):
        await schedule(db, "w")
        await began.wait()
        await admin.execute(f"revoke connect on database {probe.name} from probe_sys")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where usename = 'probe_sys' and datname = $1",
            probe.name,
        )
        cut = time.monotonic()
        await eventually(lambda: has_length(stopped, 1))
        await admin.execute(f"grant connect on database {probe.name} to probe_sys")
    assert stopped[0] - cut < LONG
