"""A cancelled turn lets go of its model at once, at whichever replica it was cancelled."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from gathering.agent.v1 import turn_pb2
from tests.integration.agent.harness import Caller
from tests.integration.agent.peers import Peers
from tests.integration.agent.test_agent_versions import two_replicas
from tests.support.postgres import TestDatabase
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply, Seen, serving
from tests.support.waiting import eventually

ROUNDS = 5
MODEL = {"name": "test", "prices": {"input": 1_000_000, "output": 2_000_000}}


async def cancelled(
    runs_at: Caller, cancelled_at: Caller, agent_id: str, seen: Seen
) -> tuple[str, float]:
    """Cancel a turn in the middle of its model's answer; return it and the seconds until then."""
    seen.streaming.clear()
    seen.disconnected.clear()
    session = await runs_at.session(agent_id)
    turn = await runs_at.start(session.session_id)
    await asyncio.wait_for(seen.streaming.wait(), 20)
    began = time.monotonic()
    ended = await cancelled_at.cancel(turn.turn_id)
    assert ended.state == turn_pb2.TURN_STATE_CANCELLED
    await asyncio.wait_for(seen.disconnected.wait(), 20)
    return turn.turn_id, time.monotonic() - began


async def expect_settled(user: Caller, turn_id: str) -> None:
    """See that the call counts at its bound, on the turn as well."""

    async def is_settled() -> bool:
        return (await user.turn(turn_id)).usage.failed_call_count == 1

    await eventually(is_settled, "the call that was cut is counted")
    admin = await asyncpg.connect(user.service.database.admin)
    try:
        attempt = await admin.fetchrow(
            "select * from agent.model_attempts where turn_id = $1", turn_id
        )
    finally:
        await admin.close()
    assert attempt is not None
    assert (attempt["error_reason"], attempt["estimated"]) == ("CANCELLED", True)
    assert attempt["end_time"] is not None
    assert attempt["cost"] > 0


@pytest.mark.parametrize("capped", [False, True], ids=["free", "within a budget"])
async def test_cancel_closes_the_providers_stream_from_either_replica(
    database: TestDatabase, peers: Peers, tmp_path: Path, capped: bool
) -> None:
    async with serving(
        "/v1/chat/completions",
        lambda body: Reply(openai_events(["one ", "two "], whole=False), hang=True),
    ) as (url, seen):
        told = {
            "openai_api_key": "key",
            "openai_base_url": f"{url}/v1",
            "agent_openai_models": [MODEL],
        }
        async with two_replicas(database, peers, tmp_path, None, **told) as users:
            agent_id = (await users[0].agent()).agent_id
            if capped:
                admin = replace(users[0], role="admin")
                await admin.set_budget("agent", agent_id, max_tokens=10**9)
            seconds: dict[str, list[float]] = {"here": [], "there": []}
            turns = []
            for _, (where, user) in itertools.product(
                range(ROUNDS), zip(seconds, users, strict=True)
            ):
                turn_id, took = await cancelled(users[0], user, agent_id, seen)
                seconds[where].append(took)
                turns.append(turn_id)
            for turn_id in turns:
                await expect_settled(users[1], turn_id)
    for where, times in seconds.items():
        median = statistics.median(times)
        print(f"\ncancelled {where}: p50 {1000 * median:.0f} ms")  # noqa: T201 (a measurement)
        assert median < 2  # that it is told at once, and not with the next look; 0.2 is promised
