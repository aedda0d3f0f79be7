"""The service is killed while it remembers a turn: the replica after it stores each thing once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from gathering.agent.v1 import agent_pb2
from gathering_mesh.settings import ServerSettings
from tests.chaos.arming import Faults
from tests.integration.agent.harness import Service, environment, settings_of
from tests.integration.agent.peers import Issuer, Peers, serving_peers
from tests.integration.agent.replicas import Replica, free_port, serving_keys
from tests.integration.agent.test_agent_remembering import Pair, pair, settled
from tests.integration.memory import conftest as memory_tests
from tests.integration.memory.callers import Service as MemoryService
from tests.support.fixtures import NewDatabase
from tests.support.ledger import Books
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply, Seen, serving

SAID = "Remember that we meet on Mondays. I prefer tabs over spaces. We use pnpm for the frontend."
QUOTES = ("we meet on Mondays", "I prefer tabs over spaces", "We use pnpm for the frontend")


def script(body: dict[str, Any]) -> Reply:
    """Answer a turn with words, and the question what to remember with what was said."""
    if "what an assistant should still know" not in str(body["messages"][0]["content"]):
        return Reply(openai_events(["Hello."], []))
    found = [
        {"text": f"By model: {quote}", "quote": quote, "type": "fact", "importance": 0.8}
        for quote in QUOTES
    ]
    return Reply(openai_events([""], [("submit_result", {"memories": found})]))


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    """The services around."""
    async with serving_peers(Issuer()) as running:
        yield running


class World:
    """A replica with fault points, the real memory service, and a model that counts its calls."""

    def __init__(
        self, replica: Replica, faults: Faults, model: Seen, memory: MemoryService, service: Service
    ) -> None:
        self.replica = replica
        self.faults = faults
        self.model = model
        self.memory = memory
        self.service = service

    async def pair(self, **agent: Any) -> Pair:
        """Return a user with a session."""
        return await pair(self.service, self.memory, **agent)

    async def survive(self, point: str, ada: Pair, at: int) -> None:
        """Say something, have the replica die at a point of remembering it, start it again."""
        self.faults.arm(point, "kill", at=at)
        turn = await ada.user.start(ada.session_id, SAID)
        await ada.user.ended(turn.turn_id)
        assert self.replica.process is not None
        await asyncio.wait_for(self.replica.process.wait(), 30)
        assert self.faults.was_hit(point)
        await self.replica.start()
        await asyncio.wait_for(self.service.channel.channel_ready(), 60)
        await settled(self.service.database)


@pytest.fixture
async def world(new_database: NewDatabase, peers: Peers, tmp_path: Path) -> AsyncIterator[World]:
    """All of it."""
    database = await new_database("agent", "memory")
    folder = tmp_path / "faults"
    folder.mkdir()
    faults = Faults(folder)
    async with AsyncExitStack() as stack:
        at_memory = memory_tests.serving(database, tmp_path / "memory", peers.issuer)
        memory = await stack.enter_async_context(at_memory)
        peers.elsewhere["memory"] = memory.address
        url, seen = await stack.enter_async_context(serving("/v1/chat/completions", script))
        jwks = await stack.enter_async_context(serving_keys(peers.issuer))
        port = free_port()
        settings = settings_of(
            database, peers, tmp_path, user_jwks_url=jwks, server=ServerSettings(port=port)
        )
        given = (
            environment(settings)
            | faults.environment
            | {
                "OPENAI_BASE_URL": f"{url}/v1",
                "OPENAI_API_KEY": "key",
                "GATHERING_AGENT_OPENAI_MODELS": '[{"name": "test"}]',
            }
        )
        replica = Replica(given, tmp_path / "agent.log")
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 100),
        ]
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        )
        await replica.start()
        await asyncio.wait_for(channel.channel_ready(), 60)
        try:
            service = Service(None, database, peers, channel)
            yield World(replica, faults, seen, memory, service)
        finally:
            await replica.kill()


POINTS = [
    ("remember.found", 1),
    ("remember.kept", 1),
    ("remember.stored", 1),
    ("remember.stored", 2),
    ("remember.stored", 3),
]


@pytest.mark.parametrize(("point", "at"), POINTS, ids=[f"{point} {at}" for point, at in POINTS])
@pytest.mark.parametrize("mode", ["rules", "model"])
async def test_killed_replica_has_remembered_each_thing_once(
    world: World, point: str, at: int, mode: str
) -> None:
    by_model = agent_pb2.MemoryPolicy(remember_mode=agent_pb2.REMEMBER_MODE_MODEL)
    agent = {"model": "openai/test", "memory_policy": by_model} if mode == "model" else {}
    ada = await world.pair(**agent)
    await world.survive(point, ada, at)
    memories = await ada.known()
    assert sorted(memory.text.rpartition(": ")[2] for memory in memories) == sorted(
        QUOTES if mode == "model" else ("We meet on Mondays.", f"{QUOTES[1]}.", f"{QUOTES[2]}.")
    )
    assert {memory.remembered_count for memory in memories} == {1}
    assert {memory.text.startswith("By model") for memory in memories} == {mode == "model"}
    if mode == "model":  # what was found and not kept is asked for again, and nothing else
        assert len(world.model.requests) == (3 if point == "remember.found" else 2)
    books = Books(world.service.database)
    assert await books.faults() == []
    assert await books.in_flight() == 0
