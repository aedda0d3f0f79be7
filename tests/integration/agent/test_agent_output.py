"""What tools tell as they run, before their results: to watchers at every replica.

The tools run in the real skills service.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gathering.agent.v1 import turn_pb2
from tests.integration.agent.harness import Caller, Scripted, Service, serving
from tests.integration.agent.peers import Peers
from tests.integration.skills import harness as skills
from tests.integration.skills.process import replica as skills_process
from tests.support.fixtures import NewDatabase
from tests.support.postgres import TestDatabase
from tests.support.redis import redis_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(120)


def told(attempt: int, count: int) -> str:
    """Return what `probe_tell` tells, without its last line."""
    return "".join(f"{attempt} {number} öö\n" for number in range(count))


@dataclass
class Watcher:
    """Somebody who watches a turn and puts together what its tools tell."""

    user: Caller
    turn_id: str
    frames: list[turn_pb2.TurnFrame] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    start: int = 0
    text: bytes = b""

    async def run(self) -> None:
        """Watch to the end."""
        async for frame in self.user.watch(self.turn_id):
            self.frames.append(frame)
            if frame.HasField("tool_output"):
                self.take(frame.tool_output)

    def take(self, piece: turn_pb2.ToolOutput) -> None:
        """Add a piece; nothing comes twice, and a later attempt voids what came before."""
        if not self.attempts or piece.attempt != self.attempts[-1]:
            assert piece.attempt > max(self.attempts, default=0)
            self.attempts.append(piece.attempt)
            self.start, self.text = piece.offset_bytes, b""
        assert piece.offset_bytes == self.start + len(self.text), "a piece is missing"
        self.text += piece.text.encode()

    async def sees(self, text: str) -> None:
        """Wait until a tool has told this."""

        async def seen() -> bool:
            return text.encode() in self.text

        await eventually(seen, f"{text!r} is seen")

    @property
    def kinds(self) -> list[str]:
        """What the frames are, pieces of one output as one."""
        found: list[str] = []
        for frame in self.frames:
            kind = str(frame.WhichOneof("frame"))
            if kind != "tool_output" or found[-1] != kind:
                found.append(kind)
        return found


@dataclass
class World:
    """Two replicas of the agent service that share a Redis, and the real skills service."""

    users: list[Caller]
    skills: skills.Caller
    model: Scripted
    ground: Path
    agent_id: str = ""
    workspace: str = ""

    async def turn(self, **arguments: Any) -> list[Watcher]:
        """Have a turn with one call of `probe_tell`; return a watcher at each replica."""
        calls = [("probe_tell", {"path": "go", "size": 2, **arguments})]
        self.model.reply = lambda request: ("Look:", calls) if request.step == 1 else ("Done.", [])
        session = await self.users[0].session(self.agent_id, workspace_id=self.workspace)
        turn = await self.users[0].start(session.session_id)
        return [Watcher(user, turn.turn_id) for user in self.users]

    def let_go(self) -> None:
        """Let the tool end."""
        (self.ground / "go").touch()


@pytest.fixture
async def database(new_database: NewDatabase) -> TestDatabase:
    """A database for both services."""
    return await new_database("agent", "skills")


@pytest.fixture
def model() -> Scripted:
    """The model."""
    return Scripted()


@dataclass
class Around:
    """What the tests have around the replicas."""

    database: TestDatabase
    peers: Peers
    folder: Path
    roots: Path


@pytest.fixture
def around(database: TestDatabase, peers: Peers, tmp_path: Path) -> Around:
    """All of it."""
    (tmp_path / "roots" / "ground").mkdir(parents=True)
    return Around(database, peers, tmp_path, tmp_path / "roots")


@pytest.fixture
async def world(around: Around, model: Scripted) -> AsyncIterator[World]:
    """Two replicas, with Redis and the real skills."""
    async with AsyncExitStack() as stack:
        yield await the_world(stack, around, model)


async def the_world(stack: AsyncExitStack, around: Around, model: Scripted) -> World:
    issuer: Any = around.peers.issuer
    tools = await stack.enter_async_context(
        skills.serving(
            around.database, issuer, around.folder, (str(around.roots),), concurrent_executions=1
        )
    )
    around.peers.elsewhere["skills"] = f"127.0.0.1:{tools.app.server.port}"
    redis = await stack.enter_async_context(redis_server())
    replicas: list[Service] = []
    for name in ("one", "two"):
        (around.folder / name).mkdir()
        found = serving(
            around.database, around.peers, around.folder / name, model, redis_url=redis.url
        )
        replicas.append(await stack.enter_async_context(found))
    user = replicas[0].caller()
    admin = tools.caller(user.tenant)
    users = [user, replace(user, service=replicas[1])]
    world = World(users, admin, model, around.roots / "ground")
    world.agent_id = (await user.agent()).agent_id
    await admin.grant(world.agent_id, "probe", skills.READ)
    world.workspace = await admin.workspace(world.ground)
    return world


def run(*watchers: Watcher) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(watcher.run()) for watcher in watchers]


async def test_watchers_of_both_replicas_see_output_before_the_results(world: World) -> None:
    watchers = await world.turn(pauses=[0, 0.6, 0.3])
    running = run(*watchers)
    await asyncio.gather(*(watcher.sees(told(1, 2)) for watcher in watchers))
    # Whoever comes late has the latest, and nothing of it twice.
    late = [replace(one, frames=[], attempts=[], text=b"") for one in watchers]
    running += run(*late)
    await asyncio.gather(*(watcher.sees(told(1, 3)) for watcher in (*watchers, *late)))
    world.let_go()
    await asyncio.wait_for(asyncio.gather(*running), 30)
    for watcher in (*watchers, *late):
        kinds = watcher.kinds
        assert kinds.count("tool_output") == 1
        place = kinds.index("tool_output")
        assert place < kinds.index("tool_results")
        assert kinds[place - 1] == "tool_started"
        assert watcher.text.decode().startswith(told(1, 3))
        (first, *_) = [f.tool_output for f in watcher.frames if f.HasField("tool_output")]
        assert (first.step, first.call_id) == (1, f"{watcher.turn_id}:1:0")
        results = next(f.tool_results for f in watcher.frames if f.HasField("tool_results"))
        assert first.execution_id == results.tool_results[0].execution_id
        whole = await owner(world).whole_output(first.execution_id)
        assert whole == told(1, 3) + "last\n"


def owner(world: World) -> skills.Caller:
    """Return the user of the turns, who sees their executions."""
    return replace(world.skills, user=world.users[0].user)


async def test_replica_of_the_tool_killed_in_mid_output_begins_anew_for_watchers(
    world: World, around: Around
) -> None:
    issuer: Any = around.peers.issuer
    roots = (str(around.roots),)
    block = await world.skills.execute("probe_slow", world.workspace, path="p", seconds=60, wait=0)

    async def blocks() -> bool:
        return (world.ground / "p").exists()

    await eventually(blocks, "the only place of the replica that stands is taken")
    async with skills_process(around.database, issuer, around.folder, roots) as killed:
        watchers = await world.turn(pauses=[0, 0, 0])
        running = run(*watchers)
        await asyncio.gather(*(watcher.sees(told(1, 3)) for watcher in watchers))
        await killed.kill()
    await world.skills.cancel(block.execution_id)
    await asyncio.gather(*(watcher.sees(told(2, 3)) for watcher in watchers))
    world.let_go()
    await asyncio.wait_for(asyncio.gather(*running), 40)
    for watcher in watchers:
        assert watcher.attempts == [1, 2]
        assert watcher.kinds[-1] == "completed"


async def test_turn_ends_well_where_output_cannot_be_followed(
    service: Service, model: Scripted
) -> None:
    async def slow(arguments: dict[str, object]) -> dict[str, object]:
        await asyncio.sleep(0.6)
        return {"found": 1}

    service.peers.skills.tools = {"slow": slow}
    service.peers.skills.tells = {"slow"}
    model.reply = lambda request: ("Look:", [("slow", {})]) if request.step == 1 else ("Done.", [])
    user = service.caller()
    turn = await user.start((await user.session()).session_id)
    watcher = Watcher(user, turn.turn_id)
    await watcher.run()
    assert watcher.kinds[-1] == "completed"
    assert sum(service.peers.skills.runs.values()) == 1
