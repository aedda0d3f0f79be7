"""The service as a process that is killed: turns go on where their last stored step was."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from gathering.agent.v1 import session_pb2, turn_pb2
from gathering_mesh.errors import DomainError
from gathering_mesh.settings import ServerSettings
from tests.integration.agent.harness import Caller, Service, environment, settings_of, texts
from tests.integration.agent.peers import Peers
from tests.integration.agent.replicas import Replica, free_port, insisting, said, serving_keys
from tests.support.postgres import TestDatabase
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply, Seen, serving
from tests.support.redis import redis_server

MODEL = "openai/test"
STEPS = 5


def script(body: dict[str, Any]) -> Reply:
    """Speak slowly, ask for three tools at each step, and answer at the end."""
    turn = [m["role"] for m in body["messages"]]
    step = len(turn) - turn[::-1].index("user")  # the messages since the last request
    step = sum(role == "assistant" for role in turn[step:]) + 1
    words = [f"step{step}word{number} " for number in range(12)]
    calls: list[tuple[str, Any]] = []
    if step < STEPS:
        note = {"text": f"note {step}"}
        calls = [("slow", {"n": step}), ("memory_remember", note), ("slow", {"n": -step})]
    return Reply(openai_events(words, calls), pause=0.01)


@dataclass
class World:
    """A replica, what is around it, and a way to it."""

    service: Service
    replica: Replica
    model: Seen
    frames: list[turn_pb2.TurnFrame] = field(default_factory=list)


@pytest.fixture
async def world(database: TestDatabase, peers: Peers, tmp_path: Path) -> AsyncIterator[World]:
    """A replica that runs, with a model server that is slow enough to be killed in."""

    async def slow(arguments: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.05)
        return {"n": arguments["n"]}

    peers.skills.tools = {"slow": slow}
    async with AsyncExitStack() as stack:
        url, seen = await stack.enter_async_context(serving("/v1/chat/completions", script))
        jwks = await stack.enter_async_context(serving_keys(peers.issuer))
        port = free_port()
        settings = settings_of(
            database, peers, tmp_path, user_jwks_url=jwks, server=ServerSettings(port=port)
        )
        given = environment(settings) | {
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": "key",
            "GATHERING_AGENT_OPENAI_MODELS": '[{"name": "test"}]',
        }
        replica = Replica(given, tmp_path / "agent.log")
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 100),
        ]
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        )
        await replica.start()
        await asyncio.wait_for(channel.channel_ready(), 30)
        try:
            yield World(Service(None, database, peers, channel), replica, seen)
        finally:
            await replica.kill()


async def follow(user: Caller, turn_id: str, frames: list[turn_pb2.TurnFrame]) -> None:
    """Watch a turn to its end, coming again with the last cursor whenever the stream is cut."""
    while True:
        cursor = frames[-1].cursor if frames else ""
        try:
            async for frame in user.watch(turn_id, cursor):
                frames.append(frame)  # noqa: PERF401 (kept when the stream breaks)
        except DomainError as error:
            assert error.status in ("UNAVAILABLE", "INTERNAL", "CANCELLED"), error.message
        if frames and frames[-1].WhichOneof("frame") in ("completed", "failed", "cancelled"):
            return
        await asyncio.sleep(0.05)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_replica_loses_no_step_and_repeats_no_tool(world: World, seed: int) -> None:
    user = world.service.caller()
    calm = await user.session()
    undisturbed = await user.start(calm.session_id, "go")
    await user.ended(undisturbed.turn_id)
    expected = said(await user.messages(calm.session_id), undisturbed.turn_id)
    assert len(expected) == 2 * STEPS

    session = await user.session(calm.agent_id)
    turn = await user.start(session.session_id, "go", request_id="once")
    watching = asyncio.create_task(follow(user, turn.turn_id, world.frames))
    moments = random.Random(seed)  # noqa: S311 (moments, not secrets)
    for _ in range(3):
        await asyncio.sleep(moments.uniform(0.05, 2.5))  # the moment is the experiment
        await world.replica.kill()
        await world.replica.start()
        await asyncio.wait_for(world.service.channel.channel_ready(), 30)
        again = await insisting(lambda: user.start(session.session_id, "go", request_id="once"))
        assert again.turn_id == turn.turn_id
    await asyncio.wait_for(watching, 120)

    stored = await user.messages(session.session_id)
    assert said(stored, turn.turn_id) == expected
    assert [message.sequence for message in stored] == list(range(1, len(stored) + 1))
    assert set(world.service.peers.skills.runs.values()) == {1}
    assert len(world.service.peers.memory.remembered) == 2 * (STEPS - 1)
    answers = {m.step: m.text for m in stored if m.role == session_pb2.MESSAGE_ROLE_ASSISTANT}
    assert texts(world.frames) == answers
    steps = [f.step.step for f in world.frames if f.WhichOneof("frame") == "step"]
    assert steps == sorted(set(steps)) == list(answers)
    completed = world.frames[-1].completed
    assert completed.usage.model_call_count == STEPS
    assert completed.usage.tool_call_count == 3 * (STEPS - 1)
    assert completed.model == MODEL


@pytest.mark.timeout(120)
async def test_drained_replica_hands_over_and_streams_say_so(world: World) -> None:
    user = world.service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, "go")
    stream = user.watch(turn.turn_id)
    frames = [await anext(stream), await anext(stream)]
    ending = asyncio.create_task(world.replica.kill(signal.SIGTERM))
    frames += [frame async for frame in stream]
    assert frames[-1].reconnect.reason == "draining"
    assert await asyncio.wait_for(ending, 60) == 0
    await world.replica.start()
    await asyncio.wait_for(world.service.channel.channel_ready(), 30)
    await follow(user, turn.turn_id, frames)
    assert frames[-1].WhichOneof("frame") == "completed"
    assert set(world.service.peers.skills.runs.values()) == {1}


@pytest.mark.timeout(120)
async def test_two_replicas_share_turns_and_cancel_across(
    world: World, database: TestDatabase, tmp_path: Path
) -> None:
    port = free_port()
    second = Replica(
        world.replica.environment | {"GATHERING_SERVER__PORT": str(port)}, tmp_path / "second.log"
    )
    await second.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 30)
            here = world.service.caller()
            there = Caller(
                Service(None, database, world.service.peers, channel), here.tenant, here.user
            )
            session = await here.session()
            turns = [await here.start((await here.session(session.agent_id)).session_id, "go")
                     for _ in range(4)]  # fmt: skip
            # Both watch all: one of the two replicas does not run the turn.
            for turn in turns[1:]:
                one, other = await asyncio.gather(
                    collect(here, turn.turn_id), collect(there, turn.turn_id)
                )
                assert one[-1].completed.text == other[-1].completed.text
                assert texts(one) == texts(other)
            long = await here.start(session.session_id, "go")
            watching = asyncio.create_task(collect(here, long.turn_id))
            await asyncio.sleep(0.2)
            assert (await there.cancel(long.turn_id)).state == turn_pb2.TURN_STATE_CANCELLED
            assert (await asyncio.wait_for(watching, 15))[-1].WhichOneof("frame") == "cancelled"
    finally:
        await second.kill()
    assert set(world.service.peers.skills.runs.values()) == {1}


async def collect(user: Caller, turn_id: str) -> list[turn_pb2.TurnFrame]:
    return [frame async for frame in user.watch(turn_id)]


@pytest.mark.timeout(120)
async def test_text_of_a_killed_replica_is_withdrawn_where_it_was_watched(
    world: World, database: TestDatabase, tmp_path: Path
) -> None:
    """Three processes of three kinds: the one that dies, the one that takes over, and Redis."""
    async with redis_server() as redis:
        await world.replica.kill()
        world.replica.environment["GATHERING_REDIS_URL"] = redis.url
        await world.replica.start()
        await asyncio.wait_for(world.service.channel.channel_ready(), 30)
        port = free_port()
        second = Replica(
            world.replica.environment | {"GATHERING_SERVER__PORT": str(port)},
            tmp_path / "second.log",
        )
        await second.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.wait_for(channel.channel_ready(), 30)
                here = world.service.caller()
                there = Caller(
                    Service(None, database, world.service.peers, channel), here.tenant, here.user
                )
                turn = await here.start((await here.session()).session_id, "go")
                frames: list[turn_pb2.TurnFrame] = []
                async for frame in there.watch(turn.turn_id):
                    frames.append(frame)
                    if not world.frames and frame.WhichOneof("frame") == "text_delta":
                        world.frames.append(frame)
                        await world.replica.kill()
        finally:
            await second.kill()
    assert frames[-1].WhichOneof("frame") == "completed"
    assert "step_withdrawn" in [frame.WhichOneof("frame") for frame in frames]
    stored = {f.step.step: f.step.text for f in frames if f.WhichOneof("frame") == "step"}
    assert texts(frames) == stored
    assert set(world.service.peers.skills.runs.values()) == {1}
