"""A provider that keeps failing is left alone by all replicas, and tried by one call at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gathering.agent.v1 import model_service_pb2, turn_pb2
from gathering_agent.errors import BudgetHeld, ModelFailed
from gathering_agent.models import Role
from gathering_agent.ports import ModelProvider
from gathering_agent.providers.circuits import Circuits
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_circuits import CircuitTerms
from gathering_agent.providers.models_dialogue import ModelEvent, ModelRequest, Said, TextDelta
from gathering_agent.providers.speaking import Patience, Speaker
from gathering_agent.providers.store_circuits import CircuitStore
from gathering_agent.streams.live import Live
from gathering_mesh.errors import DomainError
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.integration.agent.harness import Caller, Service
from tests.integration.agent.peers import Peers
from tests.integration.agent.two_providers import (
    CLAUDE,
    GPT,
    Wires,
    attempts,
    chained,
    serving_both,
    two_providers,
)
from tests.support.postgres import TestDatabase
from tests.support.providers.serving import Reply
from tests.support.waiting import eventually

BROKEN = Reply(status=500, error="broken")
HELD_BACK = (CLAUDE, "skipped", "MODEL_UNAVAILABLE")
LONG = {"agent_circuit_failures": 2, "agent_circuit_seconds": 600.0}


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    """Both providers."""
    async with two_providers() as running:
        yield running


@pytest.fixture
async def replicas(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> AsyncIterator[list[Service]]:
    """Two replicas before them, which leave alone for long what fails twice."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(serving_both(database, peers, tmp_path, wires, **LONG))
            for _ in range(2)
        ]


async def circuits(database: TestDatabase) -> list[dict[str, Any]]:
    async with database.server.admin(database.name) as admin:
        return [dict(row) for row in await admin.fetch("select * from agent.circuits")]


async def pass_time(database: TestDatabase) -> None:
    """Let the time of open circuits be over."""
    async with database.server.admin(database.name) as admin:
        await admin.execute("update agent.circuits set open_until = clock_timestamp()")


async def _may_try(user: Caller) -> bool:
    listed = await user.call("ModelService.ListModels", model_service_pb2.ListModelsRequest())
    (model,) = [model for model in listed.models if model.name == CLAUDE]
    state: int = model.circuit.state
    return state == model_service_pb2.MODEL_CIRCUIT_STATE_HALF_OPEN


async def opened(user: Caller, others: list[Caller], wires: Wires) -> None:
    """Have a circuit opened by a user's turn, and known to the replicas of others."""
    wires.anthropic.answer = BROKEN
    turn = await user.chat(await chained(user, CLAUDE, GPT))
    assert turn.model == GPT
    for other in others:

        async def knows(other: Caller = other) -> bool:
            turn = await other.chat(await chained(other, CLAUDE, GPT))
            return await attempts(other, turn.turn_id) == [HELD_BACK, (GPT, "answered", "")]

        await eventually(knows)


async def test_what_one_replica_finds_failing_is_left_alone_by_the_other(
    replicas: list[Service], wires: Wires, database: TestDatabase
) -> None:
    user = replicas[0].caller()
    elsewhere = replicas[1].caller(user.tenant)
    await opened(user, [user, elsewhere], wires)
    (circuit,) = await circuits(database)
    assert circuit["name"] == CLAUDE
    calls = wires.anthropic.calls
    for one in (user, elsewhere):
        await asyncio.gather(*[one.chat(await chained(one, CLAUDE, GPT)) for _ in range(3)])
    assert wires.anthropic.calls == calls


async def test_one_call_of_all_replicas_tries_and_closes_the_circuit(
    replicas: list[Service], wires: Wires, database: TestDatabase
) -> None:
    users = [replica.caller() for replica in replicas]
    await opened(users[0], users, wires)
    calls = wires.anthropic.calls
    wires.anthropic.next = [Reply(silent=True)]
    await pass_time(database)
    for one in users:
        await eventually(partial(_may_try, one), "each replica knows that its time is over")
    sessions = [(one, await chained(one, CLAUDE, GPT)) for one in users * 3]
    turns = [(one, await one.start(session)) for one, session in sessions]
    answered: set[str] = set()

    async def all_but_one() -> bool:
        for one, turn in turns:
            if (await one.turn(turn.turn_id)).state == turn_pb2.TURN_STATE_COMPLETED:
                answered.add(turn.turn_id)
        return len(answered) == len(turns) - 1

    await eventually(all_but_one)
    assert wires.anthropic.calls == calls + 1, "the one that tries hangs, and no other does"
    (trying,) = [(one, turn) for one, turn in turns if turn.turn_id not in answered]
    await trying[0].cancel(trying[1].turn_id)

    async def given_back() -> bool:
        (circuit,) = await circuits(database)
        return circuit["probe_until"] is None

    await eventually(given_back)
    assert (await circuits(database))[0]["open_until"] is not None, "a cancelled call says nothing"


async def test_open_circuit_is_waited_for_where_there_is_no_other_model(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    short = {"agent_circuit_failures": 2, "agent_circuit_seconds": 0.5}
    async with serving_both(database, peers, tmp_path, wires, **short) as service:
        user = service.caller()
        wires.anthropic.next = [BROKEN, BROKEN]
        failed = await user.chat(await chained(user, CLAUDE))
        assert failed.error_reason == "MODEL_FAILED"
        turns = await asyncio.gather(
            *[user.chat(session) for session in [await chained(user, CLAUDE) for _ in range(4)]]
        )
        assert [turn.model for turn in turns] == [CLAUDE] * 4
        (circuit,) = await circuits(database)
        assert (circuit["failures"], circuit["open_until"]) == (0, None)


async def test_trial_that_fails_opens_the_circuit_again_at_once(
    replicas: list[Service], wires: Wires, database: TestDatabase
) -> None:
    user = replicas[0].caller()
    await opened(user, [user], wires)
    calls = wires.anthropic.calls
    await pass_time(database)

    async def tried() -> bool:
        await user.chat(await chained(user, CLAUDE, GPT))
        return wires.anthropic.calls > calls

    await eventually(tried)
    assert wires.anthropic.calls == calls + 1
    turn = await user.chat(await chained(user, CLAUDE, GPT))
    assert (await attempts(user, turn.turn_id))[0] == HELD_BACK


async def test_answers_and_refusals_leave_no_trace(
    replicas: list[Service], wires: Wires, database: TestDatabase
) -> None:
    user = replicas[0].caller()
    wires.anthropic.next = [Reply(status=status, error="no") for status in (400, 401, 403)] * 2
    for _ in range(7):
        await user.chat(await chained(user, CLAUDE))
    assert await circuits(database) == []


async def test_answer_between_failures_forgets_them(
    replicas: list[Service], wires: Wires, database: TestDatabase
) -> None:
    user = replicas[0].caller()
    answer = wires.anthropic.answer
    wires.anthropic.next = [BROKEN, answer, BROKEN, answer]
    for _ in range(2):
        turn = await user.chat(await chained(user, CLAUDE, GPT))
        assert turn.model == CLAUDE
    (circuit,) = await circuits(database)
    assert (circuit["failures"], circuit["open_until"]) == (0, None)


async def test_provider_that_cannot_be_reached_is_left_alone_with_all_its_models(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        wires.anthropic.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with serving_both(database, peers, tmp_path, wires, **LONG) as service:
            user = service.caller()
            await user.chat(await chained(user, CLAUDE, GPT))
            (circuit,) = await circuits(database)
            assert circuit["name"] == "anthropic"
            turn = await user.chat(await chained(user, CLAUDE, GPT))
            assert (await attempts(user, turn.turn_id))[0] == HELD_BACK


async def test_provider_that_says_when_to_come_again_is_left_alone_until_then(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    short = {"agent_circuit_failures": 1, "agent_circuit_seconds": 0.1}
    async with serving_both(database, peers, tmp_path, wires, **short) as service:
        user = service.caller()
        wires.anthropic.next = [Reply(status=429, error="slow", headers={"retry-after": "50"})]
        turn = await user.chat(await chained(user, CLAUDE, GPT))
        assert (turn.model, wires.anthropic.calls) == (GPT, 1)
        turn = await user.chat(await chained(user, CLAUDE, GPT))
        assert await attempts(user, turn.turn_id) == [HELD_BACK, (GPT, "answered", "")]


async def test_circuits_of_long_ago_are_forgotten(database: TestDatabase) -> None:
    store, terms = CircuitStore(), CircuitTerms()
    settings = DatabaseSettings(database.app("agent"), database.system("agent"))
    async with Database.open(settings, schema="agent") as db, db.system() as tx:
        for name in ("old", "recent", "open", "tried"):
            await store.failed(tx, name, "MODEL_FAILED", terms, 10.0)
        await tx.run(
            "update agent.circuits set failure_time = clock_timestamp() - interval '2 hours',"
            " open_until = case name when 'open' then clock_timestamp() + interval '1 minute'"
            " when 'tried' then clock_timestamp() - interval '61 minutes' end,"
            " probe_until = case name when 'tried' then clock_timestamp() + interval '9 s' end"
            " where name <> 'recent'"
        )
        assert [one.name for one in await store.all(tx)] == ["open", "recent", "tried"]
        await store.failed(tx, "recent", "MODEL_FAILED", terms, 10.0)
        kept = await tx.fetch("select name from agent.circuits order by name")
        assert [row["name"] for row in kept] == ["open", "recent", "tried"]


class _Silent:
    """A provider that says nothing."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await asyncio.Event().wait()
        yield TextDelta("never")

    async def aclose(self) -> None:
        """Release nothing."""


@dataclass
class _Guarded:
    """The way to it, behind circuits."""

    circuits: Circuits

    def open(self, model: Model, *, last: bool) -> AbstractAsyncContextManager[ModelProvider]:
        return self.circuits.guard((model.provider, model.name), _Silent(), 0.0)


class _Open:
    """Lets every call be made."""

    async def begin(self, model: Model, request: ModelRequest, generation: str) -> Begun:
        return Begun(request, generation, model, datetime.now(UTC), 1)

    async def wait(self, held: BudgetHeld, tries: int) -> None:
        raise AssertionError(held)

    async def failed(self, attempt: Attempt) -> None:
        assert attempt.error_reason == "MODEL_FAILED"

    def cut(self, seconds: float) -> tuple[float, DomainError | None]:
        return seconds, None


@pytest.mark.parametrize(("hasty", "counted"), [(False, [CLAUDE]), (True, [])])
async def test_call_with_less_time_than_others_opens_no_circuit(
    database: TestDatabase, hasty: bool, counted: list[str]
) -> None:
    model = Model(CLAUDE, "anthropic", "claude", 128_000, 4096)
    request = ModelRequest("trn_" + "0" * 32, 1, "claude", "", (Said(Role.USER, "hello"),))
    patience = Patience(attempts=1, call_seconds=0.05, hasty=hasty)
    settings = DatabaseSettings(database.app("agent"), database.system("agent"))
    async with Database.open(settings, schema="agent") as db:
        lines = _Guarded(Circuits(db, CircuitStore(), CircuitTerms()))
        with Live().running(request.turn_id) as channel:
            speaker = Speaker(lines, channel, patience, _Open())
            with pytest.raises(ModelFailed, match="did not answer within"):
                await speaker.speak([model], lambda _: request, fence=1)
    assert [one["name"] for one in await circuits(database)] == counted
