"""The agent service with two real providers' adapters, each before a server that a test scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gathering.agent.v1 import agent_pb2, model_attempt_pb2, turn_service_pb2
from gathering_agent.settings import ModelEntry, PriceEntry
from tests.integration.agent.harness import Caller, Service
from tests.integration.agent.harness import serving as serving_agent
from tests.integration.agent.peers import Peers
from tests.support.postgres import TestDatabase
from tests.support.providers.anthropic_wire import anthropic_events
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Json, Reply, Seen, serving

CLAUDE, GPT = "anthropic/claude", "openai/gpt"
PRICED = PriceEntry(input=1_000_000, output=2_000_000)
ANSWER = {"anthropic": "Claude speaks.", "openai": "Gpt speaks."}


@dataclass
class Wire:
    """A provider: what it answers next (then its answer, again and again), and what it saw."""

    answer: Reply
    url: str = ""
    seen: Seen = field(default_factory=Seen)
    next: list[Reply] = field(default_factory=list)

    def reply(self, _request: Json) -> Reply:
        """Answer a request."""
        return self.next.pop(0) if self.next else self.answer

    @property
    def calls(self) -> int:
        """Count the requests."""
        return len(self.seen.requests)

    def keys(self) -> list[str]:
        """Return the keys that the requests carried."""
        return [
            headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")
            for headers in self.seen.headers
        ]


@dataclass
class Wires:
    """Both providers."""

    anthropic: Wire
    openai: Wire

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return the settings of a service that calls them."""
        return {
            "anthropic_api_key": "operators-anthropic-key",
            "anthropic_base_url": self.anthropic.url,
            "agent_anthropic_models": (ModelEntry(name="claude", prices=PRICED),),
            "openai_api_key": "operators-openai-key",
            "openai_base_url": f"{self.openai.url}/v1",
            "agent_openai_models": (ModelEntry(name="gpt", prices=PRICED),),
            "agent_model_attempts": 2,
            **more,
        }


@asynccontextmanager
async def two_providers() -> AsyncIterator[Wires]:
    """Serve both."""
    async with AsyncExitStack() as stack:
        wires = Wires(
            Wire(Reply(anthropic_events([ANSWER["anthropic"]]))),
            Wire(Reply(openai_events([ANSWER["openai"]]))),
        )
        for wire, path in (
            (wires.anthropic, "/v1/messages"),
            (wires.openai, "/v1/chat/completions"),
        ):
            wire.url, wire.seen = await stack.enter_async_context(serving(path, wire.reply))
        yield wires


@asynccontextmanager
async def serving_both(
    database: TestDatabase, peers: Peers, folder: Path, wires: Wires, **more: Any
) -> AsyncIterator[Service]:
    """Run a replica of the agent service that calls both."""
    async with serving_agent(database, peers, folder, **wires.settings(**more)) as service:
        yield service


async def chained(user: Caller, *models: str, **fields: Any) -> str:
    """Return a session with an agent of a chain of models."""
    model, *fallbacks = models
    agent: agent_pb2.Agent = await user.agent(model=model, fallback_models=fallbacks, **fields)
    return (await user.session(agent.agent_id)).session_id


async def attempts(user: Caller, turn_id: str, **paging: Any) -> list[tuple[str, str, str]]:
    """Return model, outcome and reason of a turn's attempts."""
    found = (await attempts_page(user, turn_id, **paging)).attempts
    states = model_attempt_pb2.ModelAttemptState
    return [
        (
            one.model,
            states.Name(one.state).removeprefix("MODEL_ATTEMPT_STATE_").lower(),
            one.error_reason,
        )
        for one in found
    ]


async def attempts_page(
    user: Caller, turn_id: str, **paging: Any
) -> turn_service_pb2.ListModelAttemptsResponse:
    """Return a page of a turn's attempts."""
    request = turn_service_pb2.ListModelAttemptsRequest(turn_id=turn_id, **paging)
    page: turn_service_pb2.ListModelAttemptsResponse = await user.call(
        "TurnService.ListModelAttempts", request
    )
    return page
