"""Two replicas, one of which dies at a chosen point of a turn; tools that count their effects.

The tools run in the real skills service. Its effect classes are what is promised of them: those of
`look`, `put` and `send` happen exactly once here, `act` at most once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc

from gathering.agent.v1 import session_pb2, turn_pb2
from gathering.skills.v1 import skill_pb2, skill_service_pb2, skill_service_pb2_grpc
from gathering_mesh.errors import DomainError
from gathering_mesh.keys import keys_of, read_jwks
from gathering_skills.app import open_app
from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.settings import SkillsSettings
from gathering_skills.tooling.context import Run
from gathering_skills.tooling.tool import Skill, Tool, tool
from tests.chaos.arming import Faults
from tests.integration.agent.harness import (
    Caller,
    Service,
    environment,
    settings_of,
    texts,
    write_files,
)
from tests.integration.agent.peers import Peers
from tests.integration.agent.replicas import Replica, free_port, said, serving_keys
from tests.support.postgres import TestDatabase
from tests.support.probe import headers
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply, serving
from tests.support.redis import redis_server
from tests.support.waiting import eventually

STEPS = 4
# What the model asks for at each step: a tool of each effect class, two at once, and a memory.
CALLS: dict[int, list[tuple[str, dict[str, Any]]]] = {
    1: [("look", {"n": 1}), ("send", {"n": 1})],
    2: [("put", {"n": 2}), ("act", {"n": 2})],
    3: [("memory_remember", {"text": "note 3"}), ("look", {"n": 3})],
    4: [],
}
TOOL_CALLS = sum(map(len, CALLS.values()))
STORES = ("answer", "results") * (STEPS - 1) + ("answer",)  # of a turn, in order
LEASE = 3.0  # short, and long enough for a machine that is busy with other tests
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_MOMENT = 0.02  # seconds between two chunks of the model's text


@dataclass(frozen=True)
class Case:
    """Where a replica dies: at the n-th pass of a fault point, or inside a call.

    `asks_again`: the step whose answer was lost with it, so that its model call is made anew.
    """

    point: str
    at: int = 1
    asks_again: int = 0

    def __str__(self) -> str:
        """Name it."""
        return f"{self.point} {self.at}"


def cases() -> Iterator[Case]:
    """Yield each place of a turn at which a replica can die."""
    yield Case("transaction.flushed", 1)  # StartTurn is written and not committed
    yield Case("mutation.committed", 1)  # it is committed and not answered
    for step in range(1, STEPS + 1):
        yield Case("turn.model_call", step)
        yield Case("inside model", step, asks_again=step)
        yield Case("turn.model_answered", step, asks_again=step)
        yield Case("transaction.flushed", 1 + step, asks_again=step)
        yield Case("turn.step_stored", step)
    for place, stored in enumerate(STORES, 1):
        yield Case("work.locked", place, asks_again=(place + 1) // 2 if stored == "answer" else 0)
    for call in range(1, sum(name != "memory_remember" for name, _ in _all_calls()) + 1):
        yield Case("turn.tool_call", call)
        yield Case("inside tool", call)
        yield Case("turn.tool_answered", call)
    for step in range(1, STEPS):
        yield Case("turn.results_stored", step)
    yield Case("work.settled", 1, asks_again=STEPS)


def _all_calls() -> Iterator[tuple[str, dict[str, Any]]]:
    return itertools.chain.from_iterable(CALLS.values())


@dataclass
class Witness:
    """What the tools did, by execution; `kill_at` names the call in whose middle a replica dies."""

    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    kill: Callable[[], None] = lambda: None
    kill_at: int = 0

    async def run(self, name: str, run: Run, n: int) -> dict[str, Any]:
        """Have an effect, in the middle of which the agent service may die."""
        self.kill_at -= 1
        if self.kill_at == 0:
            self.kill()
        await asyncio.sleep(_MOMENT)
        await run.hold()
        self.effects[name, run.execution_id] += 1
        return {"tool": name, "n": n}

    def skill(self) -> Skill:
        """Return the tools."""
        kinds = {
            "look": EffectClass.PURE,
            "put": EffectClass.CONVERGENT,
            "send": EffectClass.KEYED,
            "act": EffectClass.ONCE,
        }
        tools = tuple(self._tool(name, kind) for name, kind in kinds.items())
        return Skill("witness", "Tools of this test.", tools)

    def _tool(self, name: str, effect: EffectClass) -> Tool:
        async def body(run: Run, n: int) -> dict[str, Any]:
            """Do something.

            Args:
                n: A number.
            """
            return await self.run(name, run, n)

        body.__name__ = name
        return tool(permission=Permission.EXECUTE, effect=effect, timeout=20)(body)


@dataclass
class Script:
    """The model: what it says depends on the dialogue alone. Counts what it was asked."""

    asked: Counter[tuple[str, int]] = field(default_factory=Counter)  # request and step
    kill: Callable[[], None] = lambda: None
    kill_at: int = 0  # the step in whose text a replica dies

    def __call__(self, body: dict[str, Any]) -> Reply:
        """Answer."""
        messages = body["messages"]
        last = max(n for n, message in enumerate(messages) if message["role"] == "user")
        step = sum(message["role"] == "assistant" for message in messages[last:]) + 1
        self.asked[str(messages[last]["content"]), step] += 1
        words = [f"step{step}wörd{n} " for n in range(10)]
        return Reply(self._spoken(openai_events(words, CALLS[step]), step), pause=_MOMENT)

    def _spoken(self, events: Sequence[str], step: int) -> Iterator[str]:
        for place, event in enumerate(events):
            if place == len(events) // 2 and step == self.kill_at:
                self.kill_at = 0
                self.kill()
            yield event


@dataclass
class Watcher:
    """Somebody who watches a turn at one replica and, when that is gone, at the next."""

    users: Sequence[Caller]
    turn_id: str
    frames: list[turn_pb2.TurnFrame] = field(default_factory=list)

    async def run(self) -> None:
        """Watch to the end, coming again with the last cursor whenever the stream is cut."""
        for user in itertools.cycle(self.users):
            cursor = self.frames[-1].cursor if self.frames else ""
            try:
                async for frame in user.watch(self.turn_id, cursor):
                    self.frames.append(frame)
            except DomainError as error:
                assert error.status in ("UNAVAILABLE", "INTERNAL", "CANCELLED"), error.message
            if self.frames and self.kind(-1) in ("completed", "failed", "cancelled"):
                return
            await asyncio.sleep(0.05)

    def kind(self, place: int) -> str:
        """Return the kind of a frame."""
        return str(self.frames[place].WhichOneof("frame"))


@dataclass
class World:
    """Two replicas of the agent service, the real skills service, a model and watchers."""

    database: TestDatabase
    replicas: Sequence[Replica]
    users: Sequence[Caller]
    agent_id: str
    faults: Faults
    script: Script
    witness: Witness
    peers: Peers
    calm: list[object] = field(default_factory=list)  # the transcript that nobody disturbed
    number: int = 0
    since: datetime = _LONG_AGO  # both have to have told that they live after this

    async def undisturbed(self) -> None:
        """Run a turn that nobody disturbs."""
        session_id = await self._ready()
        turn_id, watchers = await self._turn(session_id)
        self.calm = self._transcript(await self.users[0].messages(session_id), turn_id)
        assert len(self.calm) == 1 + len(STORES)
        await self._expect(Case("nothing"), turn_id, session_id, watchers)

    async def survive(self, case: Case) -> None:
        """Have a replica die in the middle of a turn; see all of what was promised."""
        session_id = await self._ready()
        self._arm(case)
        turn_id, watchers = await self._turn(session_id)

        async def one_died() -> bool:
            return any(replica.has_ended for replica in self.replicas)

        await eventually(one_died, f"a replica died: {case}")
        (dead,) = [place for place, replica in enumerate(self.replicas) if replica.has_ended]
        await self._expect(case, turn_id, session_id, watchers, self.users[dead - 1])
        self.since = await self._fetch("select now()")
        await self.replicas[dead].start()

    def _arm(self, case: Case) -> None:
        first = self.replicas[0]

        def kill() -> None:
            assert first.process is not None
            os.kill(first.process.pid, signal.SIGKILL)

        if case.point == "inside model":
            self.script.kill, self.script.kill_at = kill, case.at
        elif case.point == "inside tool":
            self.witness.kill, self.witness.kill_at = kill, case.at
        else:
            self.faults.arm(case.point, "kill", at=case.at)

    async def _ready(self) -> str:
        """Return a new session once both replicas work, and each would take over from the other."""

        async def both_beat() -> bool:
            beats = "select count(*) from agent.replica where seen_at > $1"
            return bool(await self._fetch(beats, self.since) == len(self.replicas))

        async def nothing_is_left() -> bool:
            return not await self._fetch("select count(*) from agent.work")

        for user in self.users:
            await asyncio.wait_for(user.service.channel.channel_ready(), 60)
        await eventually(both_beat, "both replicas work")
        await eventually(nothing_is_left, "what came of the turn before is done")
        return (await self.users[1].session(self.agent_id)).session_id

    async def _fetch(self, query: str, *values: object) -> Any:
        admin = await asyncpg.connect(self.database.admin)
        try:
            return await admin.fetchval(query, *values)
        finally:
            await admin.close()

    async def _turn(self, session_id: str) -> tuple[str, list[Watcher]]:
        """Have a turn, asked for again until it is heard, watched at both replicas."""
        self.number += 1
        asked = {"text": f"go {self.number}", "request_id": f"go {self.number}"}
        turn = await self._insist(session_id, **asked)
        watchers = [Watcher(users, turn.turn_id) for users in (self.users, self.users[::-1])]
        await asyncio.wait_for(asyncio.gather(*(watcher.run() for watcher in watchers)), 90)
        return turn.turn_id, watchers

    async def _insist(self, session_id: str, **asked: str) -> turn_pb2.Turn:
        places = itertools.cycle(self.users)
        while True:
            try:
                return await next(places).start(session_id, **asked)
            except DomainError as error:
                assert error.status in ("UNAVAILABLE", "CANCELLED", "ABORTED"), error.message
                await asyncio.sleep(0.05)

    async def _expect(
        self,
        case: Case,
        turn_id: str,
        session_id: str,
        watchers: Sequence[Watcher],
        user: Caller | None = None,
    ) -> None:
        stored = await (user or self.users[0]).messages(session_id)
        assert self._transcript(stored, turn_id) == self.calm, case
        answers = {m.step: m.text for m in stored if m.role == session_pb2.MESSAGE_ROLE_ASSISTANT}
        for watcher in watchers:
            assert watcher.kind(-1) == "completed", case
            assert texts(watcher.frames) == answers, case
            steps = [f.step.step for f in watcher.frames if f.WhichOneof("frame") == "step"]
            assert steps == list(answers), case
            usage = watcher.frames[-1].completed.usage
            assert (usage.model_call_count, usage.tool_call_count) == (STEPS, TOOL_CALLS), case
        asked = [self.script.asked[f"go {self.number}", step] for step in answers]
        assert asked == [1 + (step == case.asks_again) for step in answers], f"{case}: {asked}"
        await self._expect_effects(case, turn_id)

    async def _expect_effects(self, case: Case, turn_id: str) -> None:
        """Each call is one execution, done at the first attempt, with one effect."""
        admin = await asyncpg.connect(self.database.admin)
        try:
            rows = await admin.fetch(
                "select id, tool, request_id, state, attempt_count from skills.executions"
                " where turn_id = $1 order by request_id",
                turn_id,
            )
        finally:
            await admin.close()
        calls = [
            (f"{turn_id}:{step}:{place}", tool)
            for step, asked in CALLS.items()
            for place, (tool, _) in enumerate(asked)
        ]
        remembered = [name for name, tool in calls if tool == "memory_remember"]
        found = [(row["request_id"], row["tool"]) for row in rows]
        assert found == [call for call in calls if call[0] not in remembered], case
        assert {(row["state"], row["attempt_count"]) for row in rows} == {("done", 1)}, case
        effects = [self.witness.effects[row["tool"], row["id"]] for row in rows]
        assert effects == [1] * len(rows), f"{case}: {effects}"
        assert all(name in self.peers.memory.remembered for name in remembered), case

    def _transcript(self, stored: list[session_pb2.Message], turn_id: str) -> list[object]:
        """Return what was said, with what tools gave but for the id of the memory."""
        found = [
            [result.text for result in message.tool_results if result.tool != "memory_remember"]
            for message in stored
        ]
        return [*zip(said(stored, turn_id)[1:], found[1:], strict=True), stored[0].role]


@asynccontextmanager
async def serving_skills(
    database: TestDatabase, peers: Peers, folder: Path, witness: Witness
) -> AsyncIterator[str]:
    """Serve the real skills service with the tools of a witness; yield its address."""
    settings = SkillsSettings(
        database_url=database.app("skills"),
        system_database_url=database.system("skills"),
        workspace_roots=(str(folder),),
        **write_files(folder, peers.issuer),
    )
    users = keys_of(lambda: read_jwks(peers.issuer.jwks()))
    async with open_app(settings, users=users, skills=(witness.skill(),)) as app:
        await app.server.start()
        work = asyncio.create_task(app.run())
        try:
            yield f"127.0.0.1:{app.server.port}"
        finally:
            await app.server.stop(0.5)
            work.cancel()
            await asyncio.wait({work})


async def granted(address: str, user: Caller, agent_id: str) -> None:
    """Grant an agent all tools of the witness."""
    issuer = user.service.peers.issuer
    token = issuer.user("skills.admin", tenant=user.tenant, sub=user.user, role="admin")
    request = skill_service_pb2.CreateGrantRequest(
        agent_id=agent_id, skill="witness", permissions=[skill_pb2.PERMISSION_EXECUTE]
    )
    async with grpc.aio.insecure_channel(address) as channel:
        stub = skill_service_pb2_grpc.SkillServiceStub(channel)
        await stub.CreateGrant(request, metadata=headers(token))


@asynccontextmanager
async def two_replicas(database: TestDatabase, peers: Peers, folder: Path) -> AsyncIterator[World]:
    """Run the world; `database` has the schemas of agent and skills."""
    script, witness = Script(), Witness()
    faults = Faults(folder / "faults")
    faults.folder.mkdir()
    for name in ("agent", "skills"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        url, _ = await stack.enter_async_context(serving("/v1/chat/completions", script))
        jwks = await stack.enter_async_context(serving_keys(peers.issuer))
        redis = await stack.enter_async_context(redis_server())
        skills = await stack.enter_async_context(
            serving_skills(database, peers, folder / "skills", witness)
        )
        settings = settings_of(database, peers, folder / "agent", user_jwks_url=jwks)
        given = (
            environment(settings)
            | faults.environment
            | {
                "OPENAI_BASE_URL": f"{url}/v1",
                "OPENAI_API_KEY": "key",
                "GATHERING_AGENT_OPENAI_MODELS": '[{"name": "test"}]',
                "GATHERING_REDIS_URL": redis.url,
                "GATHERING_AGENT_LEASE_SECONDS": str(LEASE),
                "GATHERING_PEERS": json.dumps(settings.peers | {"skills": skills}),
            }
        )
        replicas: list[Replica] = []
        users: list[Caller] = []
        for name in ("one", "two"):
            port = free_port()
            here = given | {"GATHERING_SERVER__PORT": str(port)}
            replica = Replica(here, folder / f"{name}.log")
            await replica.start()
            stack.push_async_callback(replica.kill)
            options = [
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 100),
            ]
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
            )
            replicas.append(replica)
            service = Service(None, database, peers, channel)
            known = users[0] if users else service.caller()
            users.append(Caller(service, known.tenant, known.user))
        await asyncio.wait_for(users[0].service.channel.channel_ready(), 60)
        agent = await users[0].agent()
        await granted(skills, users[0], agent.agent_id)
        world = World(database, replicas, users, agent.agent_id, faults, script, witness, peers)
        await world.undisturbed()
        yield world
