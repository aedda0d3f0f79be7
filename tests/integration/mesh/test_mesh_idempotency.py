"""A mutation happens once per request id: again, at once, after a restart, with another body."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from gathering_mesh import idempotency
from gathering_mesh.call import Call, Principal, RequestKey
from gathering_mesh.errors import Aborted, InvalidArgument, NotFound
from gathering_mesh.idempotency import IdempotencySettings
from gathering_mesh.postgres import Database, DatabaseSettings, Transaction
from tests.integration.mesh.conftest import database_settings
from tests.support.postgres import TestDatabase


def call(request_id: str = "r1", digest: bytes = b"body", method: str = "Make", **who: str) -> Call:
    principal = Principal(
        who.get("tenant", "ten_a"),
        who.get("user", "usr_1"),
        frozenset(),
        "member",
        actor=who.get("actor"),
    )
    return Call(principal, method, request_key=RequestKey(method, request_id, digest))


async def insert(tx: Transaction) -> str:
    made = uuid.uuid4().hex
    await tx.run("insert into thing (tenant_id, id, name) values ($1, $2, $2)", tx.tenant, made)
    return made


async def make(db: Database, caller: Call) -> str:
    """Do what a verb does."""
    async with db.mutation(caller) as tx:
        if tx.replay:
            return tx.replay
        tx.result = await insert(tx)
        return tx.result


async def count(db: Database, tenant: str = "ten_a") -> int:
    async with db.transaction(tenant) as tx:
        return int(await tx.fetch_value("select count(*) from thing"))


async def test_repetition_gives_the_first_result(db: Database) -> None:
    assert await make(db, call()) == await make(db, call())
    assert await count(db) == 1


async def test_repetition_after_a_restart_gives_the_first_result(
    db: Database, probe: TestDatabase
) -> None:
    first = await make(db, call())
    async with Database.open(database_settings(probe), schema="probe") as restarted:
        assert await make(restarted, call()) == first


async def test_other_body_is_refused(db: Database) -> None:
    await make(db, call())
    with pytest.raises(InvalidArgument) as refused:
        await make(db, call(digest=b"another"))
    assert refused.value.reason == "REQUEST_ID_REUSED"
    assert await count(db) == 1


async def test_keys_are_of_one_tenant_caller_and_method(db: Database) -> None:
    await make(db, call())
    for other in (
        call(user="usr_2", digest=b"x"),
        call(method="Break", digest=b"x"),
        call(actor="agent", digest=b"x"),
        call("r2", digest=b"x"),
    ):
        await make(db, other)
    await make(db, call(tenant="ten_b", digest=b"x"))
    assert (await count(db), await count(db, "ten_b")) == (5, 1)


async def test_call_without_a_key_happens_each_time(db: Database) -> None:
    keyless = Call(call().principal, "Make")
    assert await make(db, keyless) != await make(db, keyless)


async def test_failed_mutation_leaves_no_key(db: Database) -> None:
    with pytest.raises(NotFound):
        async with db.mutation(call()) as tx:
            await insert(tx)
            raise NotFound("no such thing")
    await make(db, call(digest=b"corrected"))
    assert await count(db) == 1


async def test_mutation_that_names_no_result_is_a_fault(db: Database) -> None:
    with pytest.raises(RuntimeError, match=r"tx\.result"):
        async with db.mutation(call()) as tx:
            await insert(tx)
    assert await count(db) == 0


async def test_twins_at_once_give_one_result(db: Database, probe: TestDatabase) -> None:
    async with Database.open(database_settings(probe), schema="probe") as replica:
        callers = [db, replica] * 4
        results = await asyncio.gather(*(make(each, call()) for each in callers))
    assert len(set(results)) == 1
    assert await count(db) == 1


async def test_twin_of_a_failing_call_takes_its_place(db: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        async with db.mutation(call()) as tx:
            await insert(tx)
            begun.set()
            await go_on.wait()
            raise NotFound("after all")

    failing = asyncio.create_task(fail())
    await begun.wait()
    twin = asyncio.create_task(make(db, call()))
    await asyncio.sleep(0.1)  # lets the twin come to the lock; without it the test is weaker
    go_on.set()
    with pytest.raises(NotFound):
        await failing
    await twin
    assert await count(db) == 1


async def test_twin_of_a_long_call_is_aborted_in_time(probe: TestDatabase) -> None:
    settings = DatabaseSettings(
        probe.app("probe"),
        probe.system("probe"),
        idempotency=IdempotencySettings(wait=0.1),
    )
    async with Database.open(settings, schema="probe") as db:
        async with db.mutation(call()) as tx:
            tx.result = await insert(tx)
            with pytest.raises(Aborted) as refused:
                await make(db, call())
        assert refused.value.reason == "REQUEST_IN_PROGRESS"
        assert await make(db, call()) == tx.result


async def test_short_wait_is_for_the_key_alone(db: Database) -> None:
    async with db.mutation(call()) as tx:
        assert await tx.fetch_value("select current_setting('lock_timeout')") == "5s"
        tx.result = "x"


async def test_expired_key_is_free_before_and_after_the_sweep(probe: TestDatabase) -> None:
    brief = IdempotencySettings(lifetime=timedelta(milliseconds=1))
    settings = DatabaseSettings(probe.app("probe"), probe.system("probe"), idempotency=brief)
    async with Database.open(settings, schema="probe") as db:
        await make(db, call())
        await asyncio.sleep(0.01)
        await make(db, call(digest=b"another"))
        await asyncio.sleep(0.01)
        async with db.system() as tx:
            assert await idempotency.sweep(tx, brief) == 1
        await make(db, call())
        assert await count(db) == 3


async def test_sweep_keeps_what_is_young(db: Database) -> None:
    await make(db, call())
    async with db.system() as tx:
        assert await idempotency.sweep(tx, IdempotencySettings()) == 0
