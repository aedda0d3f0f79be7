"""A limit on a provider's calls holds over all replicas, and outlives those that are killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gathering.agent.v1 import turn_pb2
from gathering_agent.errors import ModelUnavailable
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.integration.agent.peers import Peers
from tests.integration.agent.places import LIMIT, PROVIDER, open_places
from tests.integration.agent.two_providers import (
    CLAUDE,
    GPT,
    attempts,
    chained,
    serving_both,
    two_providers,
)
from tests.support.postgres import TestDatabase
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]
REPLICAS, CALLS = 3, 40


@pytest.fixture
async def db(database: TestDatabase) -> AsyncIterator[Database]:
    """The database as a replica opens it."""
    settings = DatabaseSettings(database.app("agent"), database.system("agent"), pool_timeout=30)
    async with Database.open(settings, schema="agent") as opened:
        yield opened


async def taken(database: TestDatabase) -> int:
    async with database.server.admin(database.name) as admin:
        return int(await admin.fetchval("select count(*) from agent.places"))


async def test_calls_of_several_replicas_stay_within_the_limit_and_all_are_made(
    db: Database, database: TestDatabase
) -> None:
    now = most = made = 0

    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(open_places(db)) for _ in range(REPLICAS)]

        async def call(number: int) -> None:
            nonlocal now, most, made
            async with replicas[number % REPLICAS].hold(PROVIDER, 60.0):
                now += 1
                most = max(most, now)
                await taken(database)  # for a while
                now -= 1
                made += 1

        await asyncio.gather(*map(call, range(CALLS)))
        async with replicas[0].hold("another", 0.0):
            pass
    assert (made, most) == (CALLS, LIMIT)
    assert await taken(database) == 0


async def test_places_of_a_killed_replica_are_free_after_its_lease(
    db: Database, database: TestDatabase
) -> None:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.agent.holder",
        database.app("agent"), database.system("agent"),
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        assert await holder.stdout.readline() == b"held\n"
        async with open_places(db) as places:
            with pytest.raises(ModelUnavailable, match="ollama has 2 calls"):
                await places.hold(PROVIDER, 0.1).__aenter__()
            holder.kill()
            await holder.wait()
            assert await taken(database) == LIMIT, "nobody was left to give them back"
            async with places.hold(PROVIDER, 30.0):
                pass
    finally:
        if holder.returncode is None:
            holder.kill()
        await holder.wait()


async def test_call_that_is_given_up_leaves_the_line(db: Database, database: TestDatabase) -> None:
    async with open_places(db) as places, AsyncExitStack() as held:
        for _ in range(LIMIT):
            await held.enter_async_context(places.hold(PROVIDER, 1.0))
        waiting = asyncio.ensure_future(places.hold(PROVIDER, 60.0).__aenter__())

        async def stands() -> bool:
            return await taken(database) == LIMIT + 1

        await eventually(stands)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert await taken(database) == LIMIT


async def test_turn_waits_at_another_replica_or_asks_the_next_model(
    database: TestDatabase, peers: Peers, tmp_path: Path
) -> None:
    more = {"agent_provider_calls": {"openai": 1}, "agent_model_wait_seconds": 0.2}
    async with (
        two_providers() as wires,
        serving_both(database, peers, tmp_path, wires, **more) as one,
        serving_both(database, peers, tmp_path, wires, **more) as other,
    ):
        wires.openai.next = [Reply(openai_events(["Slow"], whole=False), hang=True)]
        user = one.caller()
        elsewhere = other.caller(user.tenant)
        first = await user.start(await chained(user, GPT))

        async def calls() -> bool:
            return wires.openai.calls == 1

        await eventually(calls)
        falls = await elsewhere.chat(await chained(elsewhere, GPT, CLAUDE))
        assert falls.model == CLAUDE
        assert await attempts(elsewhere, falls.turn_id) == [
            (GPT, "skipped", "MODEL_UNAVAILABLE"),
            (CLAUDE, "answered", ""),
        ]
        waits = await elsewhere.start(await chained(elsewhere, GPT))

        async def stands() -> bool:
            return await taken(database) == 2

        await eventually(stands)
        assert wires.openai.calls == 1
        await user.cancel(first.turn_id)
        assert (await elsewhere.ended(waits.turn_id)).model == GPT


async def test_turn_that_waits_for_its_budget_holds_no_place(
    database: TestDatabase, peers: Peers, tmp_path: Path
) -> None:
    more = {"agent_provider_calls": {"openai": 2}}
    async with (
        two_providers() as wires,
        serving_both(database, peers, tmp_path, wires, **more) as service,
    ):
        wires.openai.next = [Reply(openai_events(["Slow"], whole=False), hang=True)]
        poor, other = service.caller(role="admin"), service.caller()
        sessions = [await chained(poor, GPT), await chained(poor, GPT)]
        await poor.set_budget("tenant", max_model_calls=1)
        first = await poor.start(sessions[0])

        async def calls() -> bool:
            return wires.openai.calls == 1

        await eventually(calls)
        waits = await poor.start(sessions[1])
        for _ in range(3):
            turn = await other.chat(await chained(other, GPT))
            assert turn.model == GPT
        assert (await poor.turn(waits.turn_id)).state == turn_pb2.TURN_STATE_RUNNING
        await poor.cancel(first.turn_id)
        assert (await poor.ended(waits.turn_id)).error_reason == "BUDGET_EXHAUSTED"
