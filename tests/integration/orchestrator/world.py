"""The orchestrator with its peers: real server, real database, callers with real tokens."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration

from gathering.agent.v1 import (
    agent_service_pb2,
    budget_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from gathering.events.v1 import event_log_service_pb2, event_pb2
from gathering.gateway.v1 import auth_service_pb2
from gathering.memory.v1 import memory_service_pb2
from gathering.orchestrator.v1 import (
    circle_pb2,
    circle_service_pb2,
    circle_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from gathering.skills.v1 import execution_service_pb2, workspace_service_pb2
from gathering_mesh.client import peer
from gathering_mesh.ids import new_id
from gathering_mesh.keys import SigningKey
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from gathering_orchestrator.app import App, open_app
from gathering_orchestrator.settings import OrchestratorSettings
from tests.integration.orchestrator.peers import (
    MEMBER_SCOPES,
    AgentPeer,
    GatewayPeer,
    MemoryPeer,
    Script,
    SkillsPeer,
)
from tests.support.postgres import TestDatabase
from tests.support.probe import Authority, headers
from tests.support.waiting import eventually

SECONDS = 20
S = task_pb2.TaskState
_SERVICES = {
    "agent": (
        (agent_service_pb2, "AgentService"),
        (session_service_pb2, "SessionService"),
        (budget_service_pb2, "BudgetService"),
        (turn_service_pb2, "TurnService"),
        (event_log_service_pb2, "EventLogService"),
    ),
    "gateway": ((auth_service_pb2, "AuthService"),),
    "memory": ((memory_service_pb2, "MembershipService"),),
    "skills": (
        (workspace_service_pb2, "WorkspaceService"),
        (execution_service_pb2, "ExecutionService"),
    ),
}


class Issuer(Authority):
    """Issues tokens of users and of services."""

    def __init__(self) -> None:
        super().__init__()
        names = ("agent", "gateway", "memory", "orchestrator", "skills")
        self.actors = {name: SigningKey.generate() for name in names}


@dataclass
class World:
    """All that a test can look at; the orchestrator itself may come and go."""

    issuer: Issuer
    database: TestDatabase
    folder: Path
    agent: AgentPeer
    gateway: GatewayPeer
    memory: MemoryPeer
    skills: SkillsPeer
    peers: dict[str, str]
    jwks_url: str
    overrides: dict[str, Any] = field(default_factory=lambda: {"permission_grace": 0.0})
    address: str = ""

    def settings(self) -> OrchestratorSettings:
        """Return the settings of a replica."""
        return OrchestratorSettings(
            database_url=self.database.app("orchestrator"),
            system_database_url=self.database.system("orchestrator"),
            peers=self.peers,
            actor_key_file=self.folder / "orchestrator.pem",
            actors_file=self.folder / "actors.json",
            user_jwks_url=self.jwks_url,
            log_level="warning",
            **self.overrides,
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[App]:
        """Run a replica in this process."""
        async with open_app(self.settings()) as app:
            await app.server.start()
            work = asyncio.create_task(app.run())
            self.address = f"127.0.0.1:{app.server.port}"
            try:
                yield app
            finally:
                await app.server.stop(0.2)
                work.cancel()
                await asyncio.wait({work})
                if not work.cancelled():
                    work.result()

    @asynccontextmanager
    async def process(self, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a replica as a process; it is killed at the end if it still lives."""
        self.address = f"127.0.0.1:{port}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gathering_orchestrator",
            env={**os.environ, **self._environment(port)}, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()

    def _environment(self, port: int) -> Mapping[str, str]:
        said = self.settings().model_dump(
            include={"database_url", "system_database_url", "user_jwks_url", "log_level",
                     *self.overrides}
        )  # fmt: skip
        return {f"GATHERING_{name.upper()}": str(value) for name, value in said.items()} | {
            "GATHERING_PEERS": json.dumps(self.peers),
            "GATHERING_ACTOR_KEY_FILE": str(self.folder / "orchestrator.pem"),
            "GATHERING_ACTORS_FILE": str(self.folder / "actors.json"),
            "GATHERING_SERVER__PORT": str(port),
        }

    def caller(self, tenant: str = "", **fields: Any) -> Caller:
        """Return a new user, of a new tenant unless one is named."""
        return Caller(self, tenant or new_id("ten"), new_id("usr"), **fields)

    async def rows(self, sql: str, *args: object) -> list[Any]:
        """Return rows of the database, whatever the tenant."""
        connection = await asyncpg.connect(self.database.admin)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def events(self, aggregate_id: str) -> list[event_pb2.Event]:
        """Return the events of a resource that were logged, oldest first."""

        async def moved() -> bool:
            return not await self.rows("select 1 from orchestrator.outbox")

        await eventually(moved, "the outbox is empty")
        rows = await self.rows(
            "select event, version from orchestrator.log where aggregate_id = $1 order by position",
            aggregate_id,
        )
        found = []
        for row in rows:
            event = event_pb2.Event.FromString(row["event"])
            event.version = row["version"]
            found.append(event)
        return found


@dataclass(frozen=True)
class Caller:
    """A user with the RPCs of the orchestrator at hand; refusals are raised as errors."""

    world: World
    tenant: str
    user: str
    role: str = "member"
    scopes: str = MEMBER_SCOPES

    async def call(self, rpc: str, **fields: Any) -> Any:
        """Call an RPC of either service."""
        in_circles = hasattr(circle_service_pb2, f"{rpc}Request")
        messages: Any = circle_service_pb2 if in_circles else task_service_pb2
        stub: Any = (
            circle_service_pb2_grpc.CircleServiceStub
            if in_circles
            else task_service_pb2_grpc.TaskServiceStub
        )
        request = getattr(messages, f"{rpc}Request")(**fields)
        async with grpc.aio.insecure_channel(self.world.address) as channel:
            with peer("orchestrator"):
                return await getattr(stub(channel), rpc)(
                    request, metadata=self.metadata(), timeout=SECONDS, wait_for_ready=True
                )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the user's token as metadata."""
        token = self.world.issuer.user(
            self.scopes, tenant=self.tenant, sub=self.user, role=self.role
        )
        return headers(token)

    def agent(self, name: str, limit: int = 1, **competences: float) -> str:
        """Return a new agent of the tenant."""
        return self.world.agent.agent(self.tenant, name, limit, **competences)

    async def circle(
        self, *agents: str, external: tuple[str, ...] = (), timeout: float = 30, **fields: Any
    ) -> circle_pb2.Circle:
        """Create a circle with these members."""
        members = [circle_pb2.Member(agent_id=agent) for agent in agents] + [
            circle_pb2.Member(agent_id=agent, mode=circle_pb2.MEMBER_MODE_EXTERNAL)
            for agent in external
        ]
        seconds = Duration()
        seconds.FromMilliseconds(round(timeout * 1000))
        circle = circle_pb2.Circle(**{"name": "team", "offer_timeout": seconds, **fields})
        made: circle_pb2.Circle = await self.call("CreateCircle", circle=circle, members=members)
        return made

    async def task(self, circle_id: str, **fields: Any) -> task_pb2.Task:
        """Create a task."""
        said = {
            "title": "Review the code",
            "description": "Read it and write REVIEW.md.",
            "acceptance_criteria": ["Names files", "Names lines"],
            **fields,
        }
        made: task_pb2.Task = await self.call("CreateTask", circle_id=circle_id, **said)
        return made

    async def get(self, task_id: str) -> task_pb2.Task:
        """Read a task."""
        found: task_pb2.Task = await self.call("GetTask", task_id=task_id)
        return found

    async def reach(
        self, task_id: str, *states: task_pb2.TaskState.ValueType, seconds: float = SECONDS
    ) -> task_pb2.Task:
        """Wait until a task is in one of these states."""
        found = [await self.get(task_id)]

        async def there() -> bool:
            found.append(await self.get(task_id))
            return found[-1].state in states

        names = [S.Name(state) for state in states]
        try:
            await eventually(there, f"{task_id} is {names}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {found[-1]}") from error
        return found[-1]

    async def members(self, circle_id: str) -> dict[str, circle_pb2.Member]:
        """Return the members by agent."""
        answer = await self.call("ListMembers", circle_id=circle_id)
        return {member.agent_id: member for member in answer.members}


@asynccontextmanager
async def opened(database: TestDatabase, folder: Path, script: Script) -> AsyncIterator[World]:
    """Open a world whose peers serve; the orchestrator is up to the test."""
    issuer = Issuer()
    (folder / "orchestrator.pem").write_bytes(issuer.actors["orchestrator"].pem())
    (folder / "actors.json").write_text(json.dumps(issuer.actors_document()))
    peers = {
        "agent": AgentPeer(script),
        "gateway": GatewayPeer(issuer),
        "memory": MemoryPeer(),
        "skills": SkillsPeer(),
    }
    async with AsyncExitStack() as stack:
        addresses = {
            name: await stack.enter_async_context(_serve(issuer, name, servicer))
            for name, servicer in peers.items()
        }
        url = await stack.enter_async_context(_jwks(issuer))
        yield World(issuer, database, folder, **peers, peers=addresses, jwks_url=url)  # type: ignore[arg-type]  # each by its name


@asynccontextmanager
async def _serve(issuer: Issuer, name: str, servicer: object) -> AsyncIterator[str]:
    server = GrpcServer(ServerSettings(), issuer.authenticator())
    for module, service in _SERVICES[name]:
        server.add(module.DESCRIPTOR.services_by_name[service], servicer)
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0.1)


@asynccontextmanager
async def _jwks(issuer: Issuer) -> AsyncIterator[str]:
    """Serve the users' keys as the gateway does."""
    body = json.dumps(issuer.jwks()).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    finally:
        server.close()
