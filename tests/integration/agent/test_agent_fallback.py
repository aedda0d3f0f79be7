"""A step that one model does not answer goes on with the next of the agent's chain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gathering.agent.v1 import agent_pb2, agent_service_pb2, model_attempt_pb2, turn_pb2
from gathering_mesh.errors import DomainError
from tests.integration.agent.harness import Service, texts
from tests.integration.agent.peers import Peers
from tests.integration.agent.test_agent_agents import refusal, update
from tests.integration.agent.two_providers import (
    ANSWER,
    CLAUDE,
    GPT,
    Wires,
    attempts,
    attempts_page,
    chained,
    serving_both,
    two_providers,
)
from tests.support.ledger import Books
from tests.support.postgres import TestDatabase
from tests.support.providers.anthropic_wire import anthropic_events
from tests.support.providers.openai_wire import openai_events
from tests.support.providers.serving import Reply

OVERLOADED = Reply(status=529, error="overloaded")
BUSY = Reply(status=429, error="slow down", headers={"retry-after": "0"})


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    """Both providers."""
    async with two_providers() as running:
        yield running


@pytest.fixture
async def service(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> AsyncIterator[Service]:
    """The service before them."""
    async with serving_both(database, peers, tmp_path, wires) as running:
        yield running


async def test_overloaded_model_is_replaced_by_the_next_of_the_chain(
    service: Service, wires: Wires
) -> None:
    user = service.caller()
    wires.anthropic.next = [BUSY, OVERLOADED]
    session = await chained(user, CLAUDE, GPT)
    turn = await user.chat(session)
    assert (turn.text, turn.model) == (ANSWER["openai"], GPT)
    assert (turn.usage.model_call_count, turn.usage.failed_call_count) == (1, 2)
    assert (turn.usage.failed_token_count, turn.usage.failed_cost_micro_usd) == (0, 0)
    assert await attempts(user, turn.turn_id) == [
        (CLAUDE, "failed", "MODEL_FAILED"),
        (CLAUDE, "failed", "MODEL_FAILED"),
        (GPT, "answered", ""),
    ]
    again = await user.chat(session)
    assert again.model == CLAUDE, "the next turn begins with the first model"


async def test_turn_stays_with_the_model_that_answered(service: Service, wires: Wires) -> None:
    user = service.caller()
    user.service.peers.skills.tools = {"echo": echo}
    wires.anthropic.next = [OVERLOADED, OVERLOADED]
    wires.openai.next = [Reply(calls("echo"))]
    turn = await user.chat(await chained(user, CLAUDE, GPT))
    assert (turn.model, turn.usage.model_call_count) == (GPT, 2)
    assert wires.anthropic.calls == 2


async def echo(arguments: dict[str, object]) -> dict[str, object]:
    return {"said": arguments}


def calls(tool: str) -> list[str]:
    return openai_events(calls=[(tool, {})])


async def test_thoughts_of_one_model_are_not_sent_to_another(
    service: Service, wires: Wires
) -> None:
    user = service.caller()
    thinking = Reply(anthropic_events(["I thought."], thinking="secret thoughts"))
    wires.anthropic.next = [thinking, OVERLOADED, OVERLOADED]
    session = await chained(user, CLAUDE, GPT)
    for _ in range(3):
        await user.chat(session)
    (other,) = wires.openai.seen.requests
    assert "I thought." in str(other)
    assert "secret thoughts" not in str(other)
    assert "secret thoughts" in str(wires.anthropic.seen.requests[-1])


async def test_partial_text_of_a_model_that_failed_is_withdrawn(
    service: Service, wires: Wires
) -> None:
    user = service.caller()
    half = anthropic_events(["Half an ", "answer"], whole=False)
    wires.anthropic.next = [Reply(half, cut=True), Reply(half, cut=True)]
    turn = await user.start(await chained(user, CLAUDE, GPT))
    frames = [frame async for frame in user.watch(turn.turn_id)]
    kinds = [frame.WhichOneof("frame") for frame in frames]
    assert texts(frames) == {1: ANSWER["openai"]}
    assert kinds[-1] == "completed"
    ended = frames[-1].completed
    found = (await attempts_page(user, turn.turn_id)).attempts
    assert [one.estimated for one in found] == [True, True, False], "a cut call counts at its bound"
    assert ended.usage.failed_token_count == sum(
        one.input_token_count + one.output_token_count for one in found[:2]
    )


async def test_model_that_refuses_is_not_replaced(service: Service, wires: Wires) -> None:
    user = service.caller()
    wires.anthropic.answer = Reply(status=400, error="not that")
    session = await chained(user, CLAUDE, GPT)
    turn = await user.chat(session)
    assert (turn.state, turn.error_reason) == (turn_pb2.TURN_STATE_FAILED, "MODEL_REFUSED")
    assert wires.openai.calls == 0


async def test_chain_that_is_exhausted_fails_the_turn_with_the_last_reason(
    service: Service, wires: Wires
) -> None:
    user = service.caller()
    wires.anthropic.answer = Reply(status=500, error="broken")
    wires.openai.answer = Reply(status=401, error="who are you")
    turn = await user.chat(await chained(user, CLAUDE, GPT))
    assert (turn.state, turn.error_reason) == (turn_pb2.TURN_STATE_FAILED, "MODEL_NOT_CONFIGURED")
    assert await attempts(user, turn.turn_id) == [
        (CLAUDE, "failed", "MODEL_FAILED"),
        (CLAUDE, "failed", "MODEL_FAILED"),
        (GPT, "failed", "MODEL_NOT_CONFIGURED"),
    ]


async def test_provider_that_cannot_be_reached_is_skipped(
    database: TestDatabase, peers: Peers, tmp_path: Path, wires: Wires
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        wires.anthropic.url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with serving_both(database, peers, tmp_path, wires) as service:
            user = service.caller()
            turn = await user.chat(await chained(user, CLAUDE, GPT))
            assert turn.model == GPT
            found = await attempts(user, turn.turn_id)
            assert found[0] == (CLAUDE, "skipped", "MODEL_FAILED")


async def test_budgets_are_booked_for_each_model_and_never_passed(
    service: Service, wires: Wires, database: TestDatabase
) -> None:
    admin = service.caller(role="admin")
    half = anthropic_events(["Half"], whole=False)
    wires.anthropic.answer = Reply(half, cut=True)
    await admin.set_budget("tenant", max_tokens=100_000, max_cost_micro_usd=150_000)
    sessions = [await chained(admin, CLAUDE, GPT) for _ in range(8)]
    turns = await asyncio.gather(*map(admin.chat, sessions))
    ended = {turn.error_reason for turn in turns}
    assert ended <= {"", "BUDGET_EXHAUSTED"}
    assert "BUDGET_EXHAUSTED" in ended, "the cap is so small that it has to refuse"
    books = Books(database)
    assert await books.faults() == []
    assert await books.in_flight() == 0


async def test_attempts_are_paged_and_seen_by_who_sees_the_turn(
    service: Service, wires: Wires
) -> None:
    user = service.caller()
    wires.anthropic.next = [OVERLOADED, OVERLOADED]
    turn = await user.chat(await chained(user, CLAUDE, GPT))
    everything = (await attempts_page(user, turn.turn_id)).attempts
    pages: list[model_attempt_pb2.ModelAttempt] = []
    token = ""
    while not pages or token:
        page = await attempts_page(user, turn.turn_id, page_size=1, page_token=token)
        pages += page.attempts
        token = page.next_page_token
    assert pages == list(everything)
    last = pages[-1]
    assert (last.step, last.input_token_count, last.output_token_count) == (1, 10, 5)
    assert last.cost_micro_usd == 20
    assert last.start_time.ToDatetime() <= last.end_time.ToDatetime()
    admin, colleague = service.caller(user.tenant, role="admin"), service.caller(user.tenant)
    assert (await attempts_page(admin, turn.turn_id)).attempts == everything
    for stranger in (colleague, service.caller(role="admin")):
        assert (await refusal(attempts_page(stranger, turn.turn_id))).reason == "NOT_FOUND"


async def test_chain_is_checked_versioned_and_updated(service: Service) -> None:
    user = service.caller()
    agent = await user.agent(model=CLAUDE, fallback_models=[GPT])
    assert list(agent.fallback_models) == [GPT]
    changed = await user.call(
        "AgentService.UpdateAgent",
        update(agent, "fallback_models", fallback_models=["offline", GPT]),
    )
    assert list(changed.fallback_models) == ["offline", GPT]
    request = agent_service_pb2.GetAgentVersionRequest(agent_id=agent.agent_id, version=1)
    first = await user.call("AgentService.GetAgentVersion", request)
    assert list(first.definition.fallback_models) == [GPT]
    for wrong, reason in (
        ([CLAUDE], "INVALID_FIELD"),
        ([GPT, GPT], "INVALID_FIELD"),
        ([""], "INVALID_FIELD"),
        (["m"] * 6, "INVALID_FIELD"),
        (["no/such"], "MODEL_NOT_CONFIGURED"),
    ):
        said = await refusal(user.agent(model=CLAUDE, fallback_models=wrong))
        assert said.reason == reason, wrong
        again = update(agent, "fallback_models", fallback_models=wrong)
        assert (await refusal(user.call("AgentService.UpdateAgent", again))).reason == reason
    clash = update(agent, "model", model=GPT)
    with pytest.raises(DomainError) as caught:
        await user.call("AgentService.UpdateAgent", clash)
    assert "agent.fallback_models" in caught.value.fields
    assert isinstance(changed, agent_pb2.Agent)
