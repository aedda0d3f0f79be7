"""200 turns at once against caps on five levels, while the replicas that run them are killed."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest

from gathering.agent.v1 import budget_pb2, turn_pb2
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from gathering_mesh.settings import ServerSettings
from tests.integration.agent.conftest import database, peers
from tests.integration.agent.harness import Caller, Service, environment, settings_of
from tests.integration.agent.peers import Peers
from tests.integration.agent.replicas import Replica, free_port, serving_keys
from tests.support.ledger import Books
from tests.support.postgres import TestDatabase
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply, serving
from tests.support.waiting import eventually

__all__ = ["database", "peers"]  # fixtures of the integration tests
TURNS = 200
KILLS = int(os.environ.get("KILLS", "10"))
STEPS = 3
T = TypeVar("T")
_MODELS = (
    '[{"name": "test", "max_output_tokens": 1000, '
    '"prices": {"input": 3000000, "output": 15000000, "cached": 300000}}]'
)
_TRANSIENT = {"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL"}


@dataclass
class Rough:
    """A provider that now and then refuses, breaks, or breaks off."""

    chance: random.Random
    calls: Counter[str] = field(default_factory=Counter)

    def __call__(self, body: dict[str, Any]) -> Reply:
        said = [message["role"] for message in body["messages"]]
        last = len(said) - said[::-1].index("user")
        step = sum(role == "assistant" for role in said[last:]) + 1
        calls: list[tuple[str, Any]] = [("echo", {"n": step})] if step < STEPS else []
        usage = (self.chance.randrange(1, 900), self.chance.randrange(1, body["max_tokens"]))
        events = openai_events(["one ", "two ", "three"], calls, usage=usage)
        kind = self.chance.choices(
            ["good", "refused", "fault", "cut", "silent-end", "uncounted"],
            [80, 4, 3, 4, 3, 6],
        )[0]
        self.calls[kind] += 1
        pause = self.chance.uniform(0.0, 0.05)
        match kind:
            case "refused":
                return Reply(status=429, error="busy", headers={"retry-after": "0.05"})
            case "fault":
                return Reply(status=500, error="out of order")
            case "cut":
                return Reply(events[:2], cut=True, pause=pause)
            case "silent-end":
                return Reply(events[:2], pause=pause)
            case "uncounted":
                return Reply(openai_events(["one "], calls, usage=None), pause=pause)
        return Reply(events, pause=pause)


@dataclass
class Pair:
    """Two replicas over one database."""

    replicas: list[Replica]
    callers: list[Caller]  # the same user at each of them
    rough: Rough

    async def insist(self, chance: random.Random, ask: Callable[[Caller], Awaitable[T]]) -> T:
        """Ask one of the replicas, then another, until one answers."""
        while True:
            try:
                return await ask(chance.choice(self.callers))
            except DomainError as error:
                if error.status not in _TRANSIENT:
                    raise
                await asyncio.sleep(0.2)  # as a client would


async def echo(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"n": arguments["n"]}


@pytest.fixture
def chance() -> random.Random:
    """Return the order of things, which a seed repeats."""
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    sys.stdout.write(f"SEED={seed}\n")
    return random.Random(seed)  # noqa: S311 (repeatable)


@pytest.fixture
async def pair(
    database: TestDatabase, peers: Peers, tmp_path: Path, chance: random.Random
) -> AsyncIterator[Pair]:
    """Two replicas that run, and a provider that is rough to them."""
    peers.skills.tools = {"echo": echo}
    rough = Rough(chance)
    async with AsyncExitStack() as stack:
        url, _ = await stack.enter_async_context(serving("/v1/chat/completions", rough))
        jwks = await stack.enter_async_context(serving_keys(peers.issuer))
        made = Pair([], [], rough)
        for number in range(2):
            port = free_port()
            settings = settings_of(
                database, peers, tmp_path, user_jwks_url=jwks, server=ServerSettings(port=port)
            )
            given = environment(settings) | {
                "OPENAI_BASE_URL": f"{url}/v1",
                "OPENAI_API_KEY": "key",
                "GATHERING_AGENT_OPENAI_MODELS": _MODELS,
                "GATHERING_AGENT_BUDGET_SECONDS": "10",
            }
            replica = Replica(given, tmp_path / f"agent-{number}.log")
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 200)]
                )
            )
            await replica.start()
            stack.push_async_callback(replica.kill)
            user = Service(None, database, peers, channel).caller(role="admin")
            first = made.callers[0] if made.callers else user
            made.callers.append(replace(user, tenant=first.tenant, user=first.user, lifetime=7200))
            made.replicas.append(replica)
            await asyncio.wait_for(channel.channel_ready(), 120)
        yield made


async def running(books: Books) -> int:
    """Return how many turns have not ended."""
    async with books.database.server.admin(books.database.name) as admin:
        count: int = await admin.fetchval(
            "select count(*) from agent.turns where state in ('queued', 'running')"
        )
    return count


async def killing(pair: Pair, chance: random.Random, books: Books) -> None:
    """Kill one replica after the other; look at the books in between."""
    for number in range(KILLS):
        await asyncio.sleep(chance.uniform(0.3, 3.0))  # the moment is the experiment
        victim = pair.replicas[number % 2]
        await victim.kill()
        assert await books.faults() == []
        await victim.start()


async def capped(pair: Pair) -> tuple[list[str], list[str]]:
    """Set the caps of tenant, agents and tasks; return the agents and the tasks."""
    user = pair.callers[0]
    helper = user.through("orchestrator")
    await user.set_budget("tenant", max_cost_micro_usd=8_000_000)
    agents = [(await user.agent()).agent_id for _ in range(4)]
    await user.set_budget("agent", agents[0], max_model_calls=60)
    await user.set_budget("agent", agents[1], max_tokens=150_000)
    tasks = [new_id("tsk") for _ in range(5)]
    await helper.set_budget("task", tasks[0], max_tokens=2_000_000, max_model_calls=450)
    for task_id in tasks[1:]:
        await helper.set_budget("task", task_id, max_tokens=500_000, parent_task_id=tasks[0])
    return agents, tasks


@pytest.mark.timeout(1200)
async def test_caps_on_five_levels_hold_under_200_turns_and_kills(
    pair: Pair, database: TestDatabase, chance: random.Random
) -> None:
    books = Books(database)
    agents, tasks = await capped(pair)
    caps = budget_pb2.BudgetCaps(max_model_calls=4, max_cost_micro_usd=120_000)
    refused: Counter[str] = Counter()

    async def one(number: int) -> None:
        agent, task = agents[number % len(agents)], tasks[number % len(tasks)]
        name = f"{number}"
        session = await pair.insist(chance, lambda at: at.session(agent, request_id=name))
        await pair.insist(
            chance, lambda at: at.set_budget("session", session.session_id, max_tokens=25_000)
        )
        try:
            await pair.insist(
                chance,
                lambda at: at.through("orchestrator").start(
                    session.session_id, task_id=task, request_id=name,
                    limits=turn_pb2.TurnLimits(budget=caps),
                ),
            )  # fmt: skip
        except DomainError as error:
            refused[error.reason] += 1

    async with asyncio.TaskGroup() as group:
        group.create_task(killing(pair, chance, books))
        for number in range(TURNS):
            group.create_task(one(number))

    async def at_rest() -> bool:
        assert await books.faults() == []
        return not await running(books) and not await books.in_flight()

    await eventually(at_rest, "all turns have ended and are settled", seconds=600)
    async with database.server.admin(database.name) as admin:
        ends = await admin.fetch(
            "select state, error_reason, coalesce(refusal->>'level', '') as level, count(*)"
            " from agent.turns group by 1, 2, 3 order by 1, 2, 3"
        )
        lost = await admin.fetchval(
            "select count(*) from agent.model_attempts where error_reason = 'LEASE_LOST'"
        )
        deadlocks = await admin.fetchval(
            "select deadlocks from pg_stat_database where datname = current_database()"
        )
    told = {(row["state"], row["error_reason"], row["level"]): row["count"] for row in ends}
    sys.stdout.write(f"{told} refused at the start {refused}, lost {lost}, {pair.rough.calls}\n")
    assert deadlocks == 0
    assert set(refused) <= {"BUDGET_EXHAUSTED"}
    assert {reason for _, reason, _ in told} <= {"", "BUDGET_EXHAUSTED", "MODEL_FAILED"}
    assert ("completed", "", "") in told
    levels = {level for _, reason, level in told if reason == "BUDGET_EXHAUSTED"}
    assert len(levels) > 1, levels  # not one cap alone that hides the others
