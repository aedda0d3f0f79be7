"""The agent service of a test: real server, real database, callers with real tokens."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    budget_pb2,
    budget_service_pb2,
    budget_service_pb2_grpc,
    model_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_pb2,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from gathering_agent.app import AgentApp, open_app
from gathering_agent.models import ToolCall, call_id
from gathering_agent.providers.models_dialogue import Answer, ModelEvent, ModelRequest, TextDelta
from gathering_agent.settings import AgentSettings
from gathering_mesh.client import peer
from gathering_mesh.ids import new_id
from gathering_mesh.keys import keys_of, read_jwks
from tests.integration.agent.peers import ALL_SCOPES, Issuer, Peers
from tests.support.postgres import TestDatabase
from tests.support.probe import headers

SECONDS = 30
LEASE = 1.0
_STUBS = {
    "AgentService": agent_service_pb2_grpc.AgentServiceStub,
    "SessionService": session_service_pb2_grpc.SessionServiceStub,
    "TurnService": turn_service_pb2_grpc.TurnServiceStub,
    "ModelService": model_service_pb2_grpc.ModelServiceStub,
    "BudgetService": budget_service_pb2_grpc.BudgetServiceStub,
}

Reply = tuple[str, list[tuple[str, dict[str, Any]]]]  # a text, and tools with arguments


@dataclass
class Scripted:
    """A provider whose answers a test writes; `gate` holds the second half of each text back."""

    reply: Callable[[ModelRequest], Reply] = lambda request: (
        f"You said: {request.messages[-1].text}",
        [],
    )
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[ModelRequest] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    closed_early: int = 0
    failures: list[Exception] = field(default_factory=list)  # raised after half of the text

    def __post_init__(self) -> None:
        self.gate.set()

    async def aclose(self) -> None:
        """Release nothing."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Say what the script says, word by word."""
        self.requests.append(request)
        text, calls = self.reply(request)
        words = [f"{word} " for word in text.split(" ")]
        half = len(words) // 2
        done = False
        try:
            for place, word in enumerate(words):
                if place == half:
                    self.begun.set()
                    if self.failures:
                        raise self.failures.pop(0)
                    await self.gate.wait()
                yield TextDelta(word)
            asked = tuple(
                ToolCall(call_id(request.turn_id, request.step, place), tool, arguments)
                for place, (tool, arguments) in enumerate(calls)
            )
            yield Answer(asked, input_tokens=7, output_tokens=3)
            done = True
        finally:
            self.closed_early += not done


def write_files(folder: Path, issuer: Issuer) -> dict[str, Any]:
    """Write the files that a service reads at its start."""
    key, actors = folder / "agent.pem", folder / "actors.json"
    key.write_bytes(issuer.actors["agent"].pem())
    key.chmod(stat.S_IRUSR)
    actors.write_text(json.dumps(issuer.actors_document()))
    return {"actor_key_file": key, "actors_file": actors}


def settings_of(database: TestDatabase, peers: Peers, folder: Path, **more: Any) -> AgentSettings:
    """Return the settings of a service for tests."""
    return AgentSettings(
        database_url=database.app("agent"),
        system_database_url=database.system("agent"),
        peers=dict.fromkeys(("memory", "skills", "gateway"), peers.address) | peers.elsewhere,
        agent_lease_seconds=LEASE,
        **write_files(folder, peers.issuer),
        **more,
    )


@asynccontextmanager
async def serving(
    database: TestDatabase, peers: Peers, folder: Path, model: Scripted | None = None, **more: Any
) -> AsyncIterator[Service]:
    """Run the service with its background work until the end of the block.

    `model` answers as the offline model and, where these are named, as OpenAI's.
    """
    users = keys_of(lambda: read_jwks(peers.issuer.jwks()))
    names = ("offline", "openai") if "agent_openai_models" in more else ("offline",)
    providers = None if model is None else dict.fromkeys(names, model)
    settings = settings_of(database, peers, folder, **more)
    async with open_app(settings, users=users, providers=providers) as app:
        await app.server.start()
        work = asyncio.create_task(app.run())
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{app.server.port}") as channel:
                yield Service(app, database, peers, channel, model)
        finally:
            await app.server.stop(1.0)
            work.cancel()
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()


@dataclass(frozen=True)
class Service:
    """A running agent service."""

    app: AgentApp | None
    database: TestDatabase
    peers: Peers
    channel: grpc.aio.Channel
    model: Scripted | None = None

    def caller(self, tenant: str = "", **fields: Any) -> Caller:
        """Return a new user, of a new tenant unless one is named."""
        return Caller(self, tenant or new_id("ten"), new_id("usr"), **fields)


@dataclass(frozen=True)
class Caller:
    """A user, alone or through a service. Refusals are raised as errors of ours."""

    service: Service
    tenant: str
    user: str
    role: str = "member"
    actor: str = ""
    scopes: str = ALL_SCOPES
    lifetime: float = 900
    delegation: str = ""  # that the token was made from

    def through(self, actor: str) -> Caller:
        """Return the same user behind a service."""
        return replace(self, actor=actor)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the tokens of a call."""
        issuer = self.service.peers.issuer
        token = issuer.user(
            self.scopes, lifetime=self.lifetime, tenant=self.tenant, sub=self.user, role=self.role,
            dlg=self.delegation or None,
        )  # fmt: skip
        return headers(token, issuer.actor(self.actor) if self.actor else None)

    async def call(self, rpc: str, request: Any, timeout: float = SECONDS) -> Any:
        """Call an RPC, named `Service.Rpc`."""
        service, _, name = rpc.partition(".")
        method = getattr(_STUBS[service](self.service.channel), name)
        with peer("agent"):
            return await method(request, metadata=self.metadata(), timeout=timeout)

    async def stream(self, rpc: str, request: Any) -> AsyncIterator[turn_pb2.TurnFrame]:
        """Yield the frames of a streamed RPC of TurnService."""
        method = getattr(_STUBS["TurnService"](self.service.channel), rpc)
        with peer("agent"):
            async for answer in method(request, metadata=self.metadata(), timeout=SECONDS):
                yield answer.frame

    async def agent(self, **fields: Any) -> agent_pb2.Agent:
        """Create an agent."""
        request = agent_service_pb2.CreateAgentRequest(
            request_id=fields.pop("request_id", ""),
            agent=agent_pb2.Agent(**{"name": "Ada", **fields}),
        )
        made: agent_pb2.Agent = await self.call("AgentService.CreateAgent", request)
        return made

    async def session(self, agent_id: str = "", **fields: Any) -> session_pb2.Session:
        """Create a session, with a new agent unless one is named."""
        agent_id = agent_id or (await self.agent()).agent_id
        request = session_service_pb2.CreateSessionRequest(agent_id=agent_id, **fields)
        made: session_pb2.Session = await self.call("SessionService.CreateSession", request)
        return made

    async def start(self, session_id: str, text: str = "hello", **fields: Any) -> turn_pb2.Turn:
        """Start a turn."""
        request = turn_service_pb2.StartTurnRequest(session_id=session_id, text=text, **fields)
        turn: turn_pb2.Turn = await self.call("TurnService.StartTurn", request)
        return turn

    async def chat(self, session_id: str, text: str = "hello", **fields: Any) -> turn_pb2.Turn:
        """Start a turn and wait for its end."""
        request = turn_service_pb2.ChatRequest(session_id=session_id, text=text, **fields)
        turn: turn_pb2.Turn = await self.call("TurnService.Chat", request)
        return turn

    async def turn(self, turn_id: str) -> turn_pb2.Turn:
        """Read a turn."""
        request = turn_service_pb2.GetTurnRequest(turn_id=turn_id)
        turn: turn_pb2.Turn = await self.call("TurnService.GetTurn", request)
        return turn

    async def cancel(self, turn_id: str, **fields: Any) -> turn_pb2.Turn:
        """Cancel a turn."""
        request = turn_service_pb2.CancelTurnRequest(turn_id=turn_id, **fields)
        turn: turn_pb2.Turn = await self.call("TurnService.CancelTurn", request)
        return turn

    def watch(self, turn_id: str, after: str = "") -> AsyncIterator[turn_pb2.TurnFrame]:
        """Stream a turn."""
        request = turn_service_pb2.WatchTurnRequest(turn_id=turn_id, after=after)
        return self.stream("WatchTurn", request)

    async def ended(self, turn_id: str) -> turn_pb2.Turn:
        """Wait for the end of a turn and return it."""
        kind, last = "", None
        async for frame in self.watch(turn_id):
            kind = str(frame.WhichOneof("frame"))
            last = frame
        assert last is not None
        assert kind in ("completed", "failed", "cancelled"), kind
        turn: turn_pb2.Turn = getattr(last, kind)
        return turn

    async def set_budget(
        self, level: str, subject_id: str = "", **fields: Any
    ) -> budget_pb2.Budget:
        """Set a budget: `max_...` are its caps."""
        caps = {name: fields.pop(name) for name in list(fields) if name.startswith("max_")}
        request = budget_service_pb2.SetBudgetRequest(
            level=budget_pb2.BudgetLevel.Value(f"BUDGET_LEVEL_{level.upper()}"),
            subject_id=subject_id,
            caps=budget_pb2.BudgetCaps(**caps),
            **fields,
        )
        budget: budget_pb2.Budget = await self.call("BudgetService.SetBudget", request)
        return budget

    async def budget(self, budget_id: str) -> budget_pb2.Budget:
        """Read a budget."""
        request = budget_service_pb2.GetBudgetRequest(budget_id=budget_id)
        budget: budget_pb2.Budget = await self.call("BudgetService.GetBudget", request)
        return budget

    async def messages(self, session_id: str) -> list[session_pb2.Message]:
        """List the messages of a session."""
        request = session_service_pb2.ListMessagesRequest(session_id=session_id, page_size=200)
        page = await self.call("SessionService.ListMessages", request)
        return list(page.messages)


def texts(frames: list[turn_pb2.TurnFrame]) -> dict[int, str]:
    """Put the text of each step together as a client does; offsets must fit."""
    found: dict[int, bytes] = {}
    for frame in frames:
        kind = frame.WhichOneof("frame")
        if kind == "step_withdrawn":
            found.pop(frame.step_withdrawn.step, None)
        elif kind == "text_delta":
            delta = frame.text_delta
            so_far = found.get(delta.step, b"")
            assert delta.offset_bytes == len(so_far), "a piece is missing or came twice"
            found[delta.step] = so_far + delta.text.encode()
    return {step: text.decode() for step, text in found.items()}


def environment(settings: AgentSettings) -> dict[str, str]:
    """Return the environment that gives a process these settings."""
    given = {
        "GATHERING_DATABASE_URL": settings.database_url,
        "GATHERING_SYSTEM_DATABASE_URL": settings.system_database_url,
        "GATHERING_PEERS": json.dumps(settings.peers),
        "GATHERING_ACTOR_KEY_FILE": str(settings.actor_key_file),
        "GATHERING_ACTORS_FILE": str(settings.actors_file),
        "GATHERING_USER_JWKS_URL": settings.user_jwks_url,
        "GATHERING_AGENT_LEASE_SECONDS": str(settings.agent_lease_seconds),
        "GATHERING_SERVER__PORT": str(settings.server.port),
    }
    keep = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return {**keep, **given}
