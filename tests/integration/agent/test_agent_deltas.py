"""Text of a turn on the replica that does not run it: by Redis, and without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gathering.agent.v1 import turn_pb2
from gathering_agent.client_redis import RedisWire
from gathering_agent.errors import ModelFailed
from gathering_agent.providers.models_dialogue import ModelRequest
from tests.integration.agent.harness import Caller, Reply, Scripted, Service, serving, texts
from tests.integration.agent.peers import Peers
from tests.support.postgres import TestDatabase
from tests.support.redis import RedisServer, redis_server
from tests.support.waiting import eventually

LONG = " ".join(f"wörd{number}" for number in range(200))
HALF = 600  # bytes; the scripted model stops in the middle until it is let go on


@dataclass
class Watcher:
    """Somebody who watches a turn at one replica."""

    user: Caller
    turn_id: str
    after: str = ""
    frames: list[turn_pb2.TurnFrame] = field(default_factory=list)

    async def run(self) -> None:
        """Watch to the end."""
        async for frame in self.user.watch(self.turn_id, self.after):
            self.frames.append(frame)

    @property
    def text(self) -> str:
        """What the first step's text is so far."""
        return texts(self.frames).get(1, "")

    async def sees(self, size: int) -> None:
        """Wait for so many bytes of the first step."""

        async def reached() -> bool:
            return len(self.text.encode()) >= size

        await eventually(reached, f"{size} bytes of text")


@dataclass
class Pair:
    """Two replicas, of which either may run a turn, and one model for both."""

    users: list[Caller]
    model: Scripted

    async def turn(self) -> turn_pb2.Turn:
        """Start a turn whose text stops in the middle."""
        self.model.gate.clear()
        self.model.begun.clear()
        session = await self.users[0].session()
        turn = await self.users[0].start(session.session_id, LONG)
        await asyncio.wait_for(self.model.begun.wait(), 10)
        return turn

    def watchers(self, turn_id: str) -> list[Watcher]:
        """Return one watcher at each replica."""
        return [Watcher(user, turn_id) for user in self.users]


async def both(
    stack: AsyncExitStack, around: tuple[TestDatabase, Peers, Path], model: Scripted, redis_url: str
) -> Pair:
    database, peers, folder = around
    replicas: list[Service] = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        replicas.append(
            await stack.enter_async_context(
                serving(database, peers, folder / name, model, redis_url=redis_url)
            )
        )
    first = replicas[0].caller()
    return Pair([first, replace(first, service=replicas[1])], model)


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    """A Redis of this test."""
    async with redis_server() as server:
        yield server


@pytest.fixture
async def pair(
    database: TestDatabase, peers: Peers, tmp_path: Path, model: Scripted, redis: RedisServer
) -> AsyncIterator[Pair]:
    """Two replicas with Redis between them."""
    async with AsyncExitStack() as stack:
        yield await both(stack, (database, peers, tmp_path), model, redis.url)


async def finish(pair: Pair, watchers: list[Watcher], running: list[asyncio.Task[None]]) -> None:
    """Let the model go on; every watcher has the stored text, without gaps."""
    pair.model.gate.set()
    await asyncio.wait_for(asyncio.gather(*running), 30)
    for watcher in watchers:
        assert watcher.frames[-1].WhichOneof("frame") == "completed"
        assert watcher.text == watcher.frames[-1].completed.text
        assert LONG in watcher.text


def run(watchers: list[Watcher]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(watcher.run()) for watcher in watchers]


async def test_text_reaches_the_watchers_of_both_replicas_before_the_step_ends(pair: Pair) -> None:
    turn = await pair.turn()
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)
    await asyncio.gather(*(watcher.sees(HALF) for watcher in watchers))
    assert watchers[0].text == watchers[1].text
    # Whoever comes late has all that there is; whoever changes the replica misses nothing.
    late = pair.watchers(turn.turn_id)
    moved = [
        Watcher(user, turn.turn_id, seen.frames[1].cursor, seen.frames[:2])
        for user, seen in zip(reversed(pair.users), watchers, strict=True)
    ]
    running += run([*late, *moved])
    await asyncio.gather(*(watcher.sees(HALF) for watcher in (*late, *moved)))
    await finish(pair, [*watchers, *late, *moved], running)


async def test_text_is_sent_from_the_moment_that_another_replica_wants_it(
    pair: Pair, redis: RedisServer
) -> None:
    turn = await pair.turn()
    here, there = pair.watchers(turn.turn_id)  # the replica that is asked for a turn runs it
    running = run([here])
    await here.sees(HALF)
    async with Redis.from_url(redis.url) as client:
        assert not await client.keys(f"*{turn.turn_id}*")
        running += run([there])
        await there.sees(HALF)
        assert len(await client.keys(f"*{turn.turn_id}*")) == 1
    await finish(pair, [here, there], running)


async def test_text_of_a_failed_attempt_is_withdrawn_at_both_replicas(pair: Pair) -> None:
    turn = await pair.turn()
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)
    await asyncio.gather(*(watcher.sees(HALF) for watcher in watchers))
    pair.model.failures = [ModelFailed("cut")]
    pair.model.gate.set()
    await finish(pair, watchers, running)


async def test_redis_killed_in_mid_turn_costs_text_and_nothing_else(
    pair: Pair, redis: RedisServer
) -> None:
    turn = await pair.turn()
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)
    await asyncio.gather(*(watcher.sees(HALF) for watcher in watchers))
    await redis.kill()
    await finish(pair, watchers, running)
    await redis.start()
    turn = await pair.turn()
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)
    await asyncio.gather(*(watcher.sees(HALF) for watcher in watchers))
    await finish(pair, watchers, running)


async def test_restarted_redis_is_told_the_whole_text(pair: Pair, redis: RedisServer) -> None:
    turn = await pair.turn()
    await redis.kill()
    await redis.start()
    early = pair.watchers(turn.turn_id)
    running = run(early)
    pair.model.gate.set()
    await finish(pair, early, running)


async def test_frozen_redis_holds_up_no_turn(pair: Pair, redis: RedisServer) -> None:
    redis.freeze()
    turn = await pair.turn()
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)
    await finish(pair, watchers, running)
    redis.thaw()
    turn = await pair.turn()
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)
    await asyncio.gather(*(watcher.sees(HALF) for watcher in watchers))
    await finish(pair, watchers, running)


@pytest.mark.parametrize("redis_url", ["", "redis://127.0.0.1:9/0"])
async def test_without_redis_the_other_replica_gives_whole_steps(
    database: TestDatabase, peers: Peers, tmp_path: Path, model: Scripted, redis_url: str
) -> None:
    async with AsyncExitStack() as stack:
        pair = await both(stack, (database, peers, tmp_path), model, redis_url)
        turn = await pair.turn()
        watchers = pair.watchers(turn.turn_id)
        running = run(watchers)

        async def one_has_text() -> bool:
            return any(len(watcher.text.encode()) >= HALF for watcher in watchers)

        await eventually(one_has_text, "the text where the turn runs")
        assert sorted(len(watcher.text.encode()) >= HALF for watcher in watchers) == [False, True]
        await finish(pair, watchers, running)


async def test_results_come_before_the_next_steps_text_which_comes_once(pair: Pair) -> None:
    def reply(request: ModelRequest) -> Reply:
        if request.step == 1:
            return "Let me see.", [("memory_recall", {"query": "boats"})]
        pair.model.gate.clear()
        return LONG, []

    pair.model.reply = reply
    session = await pair.users[0].session()
    turn = await pair.users[0].start(session.session_id, "go")
    watchers = pair.watchers(turn.turn_id)
    running = run(watchers)

    async def both_read() -> bool:
        return all(len(texts(watcher.frames).get(2, "").encode()) >= HALF for watcher in watchers)

    await eventually(both_read, "half of the second step's text at both replicas")
    pair.model.gate.set()
    await asyncio.wait_for(asyncio.gather(*running), 30)
    for watcher in watchers:
        stored = {f.step.step: f.step.text for f in watcher.frames if f.HasField("step")}
        assert texts(watcher.frames) == stored
        results = next(n for n, f in enumerate(watcher.frames) if f.HasField("tool_results"))
        before = [f for f in watcher.frames[:results] if f.HasField("text_delta")]
        assert {frame.text_delta.step for frame in before} == {1}


async def test_a_replica_hears_what_others_want_and_not_what_it_wants_itself(
    redis: RedisServer,
) -> None:
    one, other = RedisWire(redis.url), RedisWire(redis.url)
    try:
        await one.want(["trn_1"])
        await other.want(["trn_2", "trn_3"])
        assert await one.wanted(5.0) == ["trn_2", "trn_3"]
        assert await other.wanted(5.0) == ["trn_1"]
    finally:
        await one.aclose()
        await other.aclose()
