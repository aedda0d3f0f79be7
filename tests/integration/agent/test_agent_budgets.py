"""Budgets through the port: who sets them, what they refuse, what is booked on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gathering.agent.v1 import budget_pb2, budget_service_pb2, turn_pb2, turn_service_pb2
from gathering_agent.budgets.models import Budget, BudgetTerms, Caps, Level, Subject
from gathering_agent.budgets.store import BudgetStore
from gathering_agent.errors import BadSubject, ModelFailed
from gathering_agent.providers.models_dialogue import ModelRequest
from gathering_agent.settings import ModelEntry, PriceEntry
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, DatabaseSettings
from tests.integration.agent.harness import Caller, Scripted, Service, serving
from tests.integration.agent.peers import Peers
from tests.support.ledger import Books
from tests.support.postgres import TestDatabase
from tests.support.waiting import eventually

FAILED, COMPLETED = turn_pb2.TURN_STATE_FAILED, turn_pb2.TURN_STATE_COMPLETED
PRICED = ModelEntry(
    name="priced", max_output_tokens=1000, prices=PriceEntry(input=3_000_000, output=15_000_000)
)
NOTHING = "0" * 32
FREE = ModelEntry(name="unknown")


@pytest.fixture
async def service(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> AsyncIterator[Service]:
    """The service with a model whose prices are known and one whose are not."""
    models = (PRICED, FREE)
    async with serving(
        database, peers, tmp_path, model, agent_openai_models=models, agent_budget_seconds=0.3
    ) as running:
        yield running


@pytest.fixture
async def books(database: TestDatabase) -> AsyncIterator[Books]:
    """The tables, which have to agree at the end of each test."""
    made = Books(database)
    yield made
    assert await made.faults() == []
    assert await made.in_flight() == 0


async def echo(arguments: dict[str, object]) -> dict[str, object]:
    return {"said": arguments}


def looping(service: Service, model: Scripted) -> None:
    """Have the model ask for a tool in every step."""
    service.peers.skills.tools = {"echo": echo}
    model.reply = lambda request: ("Again.", [("echo", {"n": request.step})])


async def refusal(call: Any) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await call
    return caught.value


def amount(budget: budget_pb2.BudgetAmount) -> tuple[int, int, int]:
    return budget.tokens, budget.cost_micro_usd, budget.model_calls


async def test_budget_is_set_read_changed_and_deleted(service: Service, books: Books) -> None:
    admin = service.caller(role="admin")
    made = await admin.set_budget("tenant", max_tokens=10**6, max_model_calls=0)
    assert made.caps.HasField("max_model_calls")
    assert not made.caps.HasField("max_cost_micro_usd")
    changed = await admin.set_budget("tenant", max_tokens=5, etag=made.etag)
    assert (changed.budget_id, changed.caps.max_tokens) == (made.budget_id, 5)
    assert not changed.caps.HasField("max_model_calls")
    assert (await refusal(admin.set_budget("tenant", etag=made.etag))).reason == "ETAG_STALE"
    assert await admin.budget(made.budget_id) == changed
    gone = budget_service_pb2.DeleteBudgetRequest(budget_id=made.budget_id, request_id="once")
    for _ in range(2):
        assert (await admin.call("BudgetService.DeleteBudget", gone)).budget_id == made.budget_id
    assert (await refusal(admin.budget(made.budget_id))).reason == "NOT_FOUND"
    again = await admin.set_budget("tenant", max_tokens=7)
    assert again.budget_id != made.budget_id


async def test_who_may_set_and_see_which_budget(service: Service, books: Books) -> None:
    admin = service.caller(role="admin")
    user, other = service.caller(admin.tenant), service.caller(admin.tenant)
    session = await user.session()
    for level, subject in (
        ("tenant", ""), ("agent", session.agent_id), ("task", new_id("tsk")),
    ):  # fmt: skip
        assert (await refusal(user.set_budget(level, subject))).status == "PERMISSION_DENIED"
        made = await admin.set_budget(level, subject)
        assert (await other.budget(made.budget_id)).subject_id == subject
    assert (await refusal(other.set_budget("session", session.session_id))).reason == "NOT_FOUND"
    stranger = service.caller(role="admin")
    for level, subject in (("agent", session.agent_id), ("session", session.session_id)):
        assert (await refusal(stranger.set_budget(level, subject))).reason == "NOT_FOUND"
    own = await user.set_budget("session", session.session_id, max_tokens=9)
    assert (await refusal(other.budget(own.budget_id))).reason == "NOT_FOUND"
    await admin.set_budget("session", session.session_id, max_tokens=5)
    denied = await refusal(user.set_budget("session", session.session_id, max_tokens=9))
    assert denied.reason == "NOT_ALLOWED"
    request = budget_service_pb2.ListBudgetsRequest(page_size=2)
    seen: dict[str, list[int]] = {}
    for name, caller in (("user", user), ("other", other), ("admin", admin)):
        request.page_token = ""
        levels: list[int] = []
        while not levels or request.page_token:
            page = await caller.call("BudgetService.ListBudgets", request)
            levels += [one.level for one in page.budgets]
            request.page_token = page.next_page_token
        seen[name] = sorted(levels)
    assert seen == {"user": [1, 2, 3, 4], "other": [1, 2, 3], "admin": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("level", "subject", "field"),
    [
        ("turn", "", "level"),
        ("tenant", f"agt_{NOTHING}", "subject_id"),
        ("agent", "", "subject_id"),
        ("agent", f"ses_{NOTHING}", "subject_id"),
    ],
)
async def test_subject_that_does_not_fit_is_refused(
    service: Service, level: str, subject: str, field: str
) -> None:
    admin = service.caller(role="admin")
    error = await refusal(admin.set_budget(level, subject))
    assert list(error.fields) == [field]


async def test_refused_call_names_the_cap_and_what_is_left(
    service: Service, model: Scripted, books: Books
) -> None:
    looping(service, model)
    user = service.caller(role="admin")
    session = await user.session()
    made = await user.set_budget("agent", session.agent_id, max_model_calls=2)
    turn = await user.chat(session.session_id)
    assert (turn.state, turn.error_reason) == (FAILED, "BUDGET_EXHAUSTED")
    refused = turn.budget_refusal
    assert (refused.cap, refused.limit, refused.left) == (budget_pb2.BUDGET_CAP_MODEL_CALLS, 2, 0)
    assert refused.subject_id == session.agent_id
    assert f"agent {session.agent_id}" in turn.error_message
    assert "model_calls is capped at 2 calls, 0 are left" in turn.error_message
    assert len(model.requests) == 2
    budget = await user.budget(made.budget_id)
    assert amount(budget.spent) == (20, 132, 2)
    assert amount(budget.reserved) == (0, 0, 0)

    error = await refusal(user.start(session.session_id, "again"))  # it is not even begun
    assert (error.status, error.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_EXHAUSTED")
    assert dict(error.metadata) == dict(error.metadata) | {
        "level": "agent", "subject": session.agent_id, "cap": "model_calls", "limit": "2",
        "left": "0", "wanted": "1",
    }  # fmt: skip
    await user.set_budget("agent", session.agent_id, max_model_calls=100)
    model.reply = lambda request: ("Done.", [])
    assert (await user.chat(session.session_id, "again")).state == COMPLETED


async def test_turn_has_a_budget_of_its_own(
    service: Service, model: Scripted, books: Books
) -> None:
    looping(service, model)
    user = service.caller()
    session = await user.session()
    limits = turn_pb2.TurnLimits(budget=budget_pb2.BudgetCaps(max_model_calls=1))
    turn = await user.chat(session.session_id, limits=limits)
    assert turn.budget_refusal.level == budget_pb2.BUDGET_LEVEL_TURN
    assert turn.budget_refusal.subject_id == turn.turn_id
    model.reply = lambda request: ("Done.", [])
    assert (await user.chat(session.session_id)).state == COMPLETED


async def test_answer_is_bounded_to_what_is_left(
    service: Service, model: Scripted, books: Books
) -> None:
    user = service.caller(role="admin")
    session = await user.session((await user.agent(model="offline")).agent_id)
    await user.chat(session.session_id)
    (unbounded,) = model.requests
    (attempt,) = await books.attempts((await turns(user, session.session_id))[0].turn_id)
    assert attempt["budgets"] == []
    await user.set_budget("session", session.session_id, max_tokens=12_000)
    turn = await user.chat(session.session_id)
    assert turn.state == COMPLETED
    (attempt,) = await books.attempts(turn.turn_id)
    asked = model.requests[-1].max_output_tokens
    assert 256 <= asked < unbounded.max_output_tokens
    assert attempt["reserved_tokens"] == 12_000
    tight = await user.set_budget("session", session.session_id, max_tokens=2_000)
    turn = await user.chat(session.session_id)
    assert turn.budget_refusal.cap == budget_pb2.BUDGET_CAP_TOKENS
    assert turn.budget_refusal.left == 2_000 - tight.spent.tokens
    assert turn.budget_refusal.wanted > 2_000


async def turns(user: Caller, session_id: str) -> list[turn_pb2.Turn]:
    request = turn_service_pb2.ListTurnsRequest(session_id=session_id)
    return list((await user.call("TurnService.ListTurns", request)).turns)


async def test_money_is_counted_to_the_micro_dollar(service: Service, books: Books) -> None:
    user = service.caller(role="admin")
    agent = await user.agent(model="openai/priced")
    made = await user.set_budget("tenant", max_cost_micro_usd=100_000)
    session = await user.session(agent.agent_id)
    turn = await user.chat(session.session_id)
    assert turn.usage.cost_micro_usd == 7 * 3 + 3 * 15
    assert amount((await user.budget(made.budget_id)).spent) == (10, 66, 1)
    await user.set_budget("tenant", max_cost_micro_usd=67)
    turn = await user.chat(session.session_id)
    assert turn.budget_refusal.cap == budget_pb2.BUDGET_CAP_COST
    assert (turn.budget_refusal.limit, turn.budget_refusal.left) == (67, 1)


async def test_model_without_prices_is_not_called_where_money_is_capped(
    service: Service, model: Scripted, books: Books
) -> None:
    user = service.caller(role="admin")
    agent = await user.agent(model="openai/unknown")
    session = await user.session(agent.agent_id)
    turn = await user.chat(session.session_id)
    assert turn.state == COMPLETED
    assert not turn.usage.HasField("cost_micro_usd")
    await user.set_budget("tenant", max_cost_micro_usd=10**9)
    turn = await user.chat(session.session_id)
    assert turn.error_reason == "MODEL_PRICE_UNKNOWN"
    assert len(model.requests) == 1


async def test_failed_calls_are_booked_by_what_is_known_of_them(
    service: Service, model: Scripted, books: Books
) -> None:
    refused, unsent = ModelFailed("busy", retry_after=0.01), ModelFailed("no way", retry_after=0.01)
    refused.refused, unsent.unsent = True, True
    model.failures = [refused, unsent, ModelFailed("cut", retry_after=0.01)]
    model.reply = lambda request: ("word", [])  # the first half is empty: nothing was said
    user = service.caller(role="admin")
    agent = await user.agent(model="openai/priced")
    made = await user.set_budget("agent", agent.agent_id, max_tokens=10**6)
    turn = await user.chat((await user.session(agent.agent_id)).session_id)
    assert turn.state == COMPLETED
    rows = await books.attempts(turn.turn_id)
    known = [(r["input_tokens"] + r["output_tokens"] == r["reserved_tokens"], r["estimated"],
              r["unsent"]) for r in rows]  # fmt: skip
    assert known == [(False, False, False), (False, False, True), (True, True, False),
                     (False, False, False)]  # fmt: skip
    spent = (await user.budget(made.budget_id)).spent
    assert spent.model_calls == 3
    assert spent.tokens == rows[2]["reserved_tokens"] + 10
    assert turn.usage.failed_token_count == rows[2]["reserved_tokens"]
    assert turn.usage.failed_cost_micro_usd == rows[2]["cost"] == rows[2]["reserved_cost"]


async def test_wall_time_cuts_a_call_in_flight(
    service: Service, model: Scripted, books: Books
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    caps = budget_pb2.BudgetCaps()
    caps.max_wall_time.FromTimedelta(timedelta(seconds=0.5))
    turn = await user.start(session.session_id, limits=turn_pb2.TurnLimits(budget=caps))
    ended = await user.ended(turn.turn_id)
    assert ended.error_reason == "BUDGET_EXHAUSTED"
    assert ended.budget_refusal.cap == budget_pb2.BUDGET_CAP_WALL_TIME
    (attempt,) = await books.attempts(turn.turn_id)
    assert (attempt["error_reason"], attempt["estimated"]) == ("BUDGET_EXHAUSTED", True)


async def test_wall_time_cuts_tools_and_stops_them(
    service: Service, model: Scripted, books: Books
) -> None:
    begun = asyncio.Event()

    async def endless(arguments: dict[str, object]) -> dict[str, object]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    service.peers.skills.tools = {"endless": endless}
    model.reply = lambda request: ("Wait.", [("endless", {})])
    user = service.caller()
    session = await user.session()
    caps = budget_pb2.BudgetCaps()
    caps.max_wall_time.FromTimedelta(timedelta(seconds=1))
    turn = await user.start(session.session_id, limits=turn_pb2.TurnLimits(budget=caps))
    await begun.wait()
    ended = await user.ended(turn.turn_id)
    assert ended.budget_refusal.cap == budget_pb2.BUDGET_CAP_WALL_TIME

    async def stopped() -> bool:
        return bool(service.peers.skills.cancelled)

    await eventually(stopped, "the tool is cancelled")


async def test_cancelled_call_is_settled_at_its_bound(
    service: Service, model: Scripted, books: Books
) -> None:
    model.gate.clear()
    user = service.caller(role="admin")
    made = await user.set_budget("tenant", max_tokens=10**6)
    turn = await user.start((await user.session()).session_id, "one two three four")
    await model.begun.wait()
    held = (await user.budget(made.budget_id)).reserved
    assert held.model_calls == 1
    await user.cancel(turn.turn_id)

    async def settled() -> bool:
        return not await books.in_flight()

    await eventually(settled, "the call is settled")
    budget = await user.budget(made.budget_id)
    assert (budget.spent, budget.reserved.tokens) == (held, 0)


async def test_call_waits_for_what_calls_in_flight_give_back(
    service: Service, model: Scripted, books: Books
) -> None:
    model.gate.clear()
    user = service.caller(role="admin")
    agent = await user.agent(model="openai/priced")
    await user.set_budget("agent", agent.agent_id, max_tokens=6_000)
    first, second = [await user.session(agent.agent_id) for _ in range(2)]
    one = await user.start(first.session_id, "one two three")
    await model.begun.wait()
    two = await user.start(second.session_id, "one two three")
    if len(model.requests) == 1:
        model.gate.set()
    ended = [await user.ended(turn.turn_id) for turn in (one, two)]
    assert [turn.state for turn in ended] == [COMPLETED, COMPLETED]

    model.gate.clear()
    model.begun.clear()
    one = await user.start(first.session_id, "one two three")
    await model.begun.wait()
    refused = await user.ended((await user.start(second.session_id)).turn_id)
    assert refused.error_reason == "BUDGET_EXHAUSTED"  # what it waited for did not come
    model.gate.set()
    await user.ended(one.turn_id)


async def test_task_draws_on_the_budget_of_the_task_above(
    service: Service, model: Scripted, books: Books
) -> None:
    admin = service.caller(role="admin")
    helper = service.caller(admin.tenant).through("orchestrator")
    top, middle, low = (new_id("tsk") for _ in range(3))
    await helper.set_budget("task", low, max_model_calls=50, parent_task_id=middle)
    await helper.set_budget("task", middle, parent_task_id=top)
    made = await helper.set_budget("task", top, max_model_calls=3)
    session = await helper.session()
    for task_id, states in ((low, [COMPLETED] * 2), (middle, [COMPLETED, FAILED])):
        for state in states:
            try:
                turn = await helper.start(session.session_id, task_id=task_id)
            except DomainError as error:
                assert (error.reason, state) == ("BUDGET_EXHAUSTED", FAILED)
            else:
                assert (await helper.ended(turn.turn_id)).state == state
    assert (await admin.budget(made.budget_id)).spent.model_calls == 3
    cycle = await refusal(helper.set_budget("task", top, parent_task_id=low))
    assert list(cycle.fields) == ["parent_task_id"]
    gone = budget_service_pb2.DeleteBudgetRequest(budget_id=made.budget_id)
    assert (await refusal(admin.call("BudgetService.DeleteBudget", gone))).reason == "IN_USE"


@pytest.fixture
async def db(database: TestDatabase) -> AsyncIterator[Database]:
    """The database as two replicas use it."""
    settings = DatabaseSettings(database.app("agent"), database.system("agent"))
    async with Database.open(settings, schema="agent") as opened:
        yield opened


def of_task(task_id: str, parent: str = "") -> BudgetTerms:
    return BudgetTerms(Subject(Level.TASK, task_id), Caps(calls=9), parent_task_id=parent)


async def test_budget_that_is_deleted_has_nothing_put_below_it_meanwhile(
    db: Database, database: TestDatabase
) -> None:
    store, tenant = BudgetStore(), new_id("ten")
    above, below = new_id("tsk"), new_id("tsk")
    async with db.transaction(tenant) as tx:
        old = await store.put(tx, of_task(above))

    async def put() -> Budget:
        async with db.transaction(tenant) as tx:
            return await store.put(tx, of_task(below, above))

    async with db.transaction(tenant) as tx:
        await store.get(tx, old.id, lock=True)
        assert await store.remove(tx, old.id)
        putting = asyncio.create_task(put())
        await eventually(database.lock_waits, "who puts one below waits")
    child = await putting
    async with db.transaction(tenant) as tx:
        chain = await store.chain(tx, ("", "", "", below))
    assert {one.subject.id for one in chain} == {above, below}
    assert child.parent_id in {one.id for one in chain} - {old.id}


async def test_budget_with_another_put_below_meanwhile_is_not_deleted(
    db: Database, database: TestDatabase
) -> None:
    store, tenant = BudgetStore(), new_id("ten")
    above, below = new_id("tsk"), new_id("tsk")
    async with db.transaction(tenant) as tx:
        old = await store.put(tx, of_task(above))

    async def remove() -> bool:
        async with db.transaction(tenant) as tx:
            await store.get(tx, old.id, lock=True)
            return await store.remove(tx, old.id)

    async with db.transaction(tenant) as tx:
        child = await store.put(tx, of_task(below, above))
        removing = asyncio.create_task(remove())
        await eventually(database.lock_waits, "who deletes waits")
    assert not await removing
    assert child.parent_id == old.id


async def test_two_tasks_are_not_put_below_each_other_at_once(
    db: Database, database: TestDatabase
) -> None:
    store, tenant = BudgetStore(), new_id("ten")
    one, other = new_id("tsk"), new_id("tsk")
    async with db.transaction(tenant) as tx:
        for task_id in (one, other):
            await store.put(tx, of_task(task_id))

    async def put() -> None:
        async with db.transaction(tenant) as tx:
            await store.put(tx, of_task(other, one))

    async with db.transaction(tenant) as tx:
        await store.put(tx, of_task(one, other))
        putting = asyncio.create_task(put())
        await eventually(database.lock_waits, "the second one waits")
    with pytest.raises(BadSubject):
        await putting


async def test_many_turns_at_once_pass_no_cap_on_five_levels(
    service: Service, model: Scripted, books: Books
) -> None:
    service.peers.skills.tools = {"echo": echo}
    calls = {"n": 0}

    def reply(request: ModelRequest) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        calls["n"] += 1
        if calls["n"] % 5 == 0:
            model.failures.append(ModelFailed("cut", retry_after=0.01))
        return "two words", [("echo", {"n": 1})] if request.step < 3 else []

    model.reply = reply
    admin = service.caller(role="admin")
    helper = service.caller(admin.tenant).through("orchestrator")
    tasks = [new_id("tsk") for _ in range(3)]
    agents = [await helper.agent(model="openai/priced") for _ in range(2)]
    await admin.set_budget("tenant", max_tokens=900_000, max_cost_micro_usd=3_000_000)
    await admin.set_budget("agent", agents[0].agent_id, max_model_calls=40)
    for task_id in tasks:
        await helper.set_budget("task", task_id, max_tokens=300_000, parent_task_id=tasks[0]
                                if task_id != tasks[0] else "")  # fmt: skip
    caps = budget_pb2.BudgetCaps(max_model_calls=3)

    async def one(number: int) -> turn_pb2.Turn | str:
        session = await helper.session(agents[number % 2].agent_id)
        await helper.set_budget("session", session.session_id, max_tokens=20_000)
        try:
            turn = await helper.start(session.session_id, task_id=tasks[number % 3],
                                      limits=turn_pb2.TurnLimits(budget=caps))  # fmt: skip
            return await helper.ended(turn.turn_id)
        except DomainError as error:
            return error.reason

    ended = await asyncio.gather(*map(one, range(30)))
    assert await books.faults() == []
    reasons = {one if isinstance(one, str) else one.error_reason for one in ended}
    assert reasons <= {"", "BUDGET_EXHAUSTED"}
    assert reasons == {"", "BUDGET_EXHAUSTED"}  # both: some were refused, some got through


async def test_usage_is_told_by_time_agent_model_and_task(service: Service, books: Books) -> None:
    admin = service.caller(role="admin")
    user = service.caller(admin.tenant)
    task_id, made = new_id("tsk"), dict[str, str]()
    for model_name, task in (
        ("openai/priced", ""),
        ("openai/unknown", task_id),
        ("offline", ""),
    ):
        agent = await user.agent(model=model_name)
        made[model_name] = agent.agent_id
        session = await user.session(agent.agent_id)
        turn = await user.through("orchestrator").start(session.session_id, task_id=task)
        await user.ended(turn.turn_id)
    request = budget_service_pb2.GetUsageRequest(
        bucket=budget_service_pb2.USAGE_BUCKET_DAY,
        group_by=[
            budget_service_pb2.USAGE_DIMENSION_MODEL,
            budget_service_pb2.USAGE_DIMENSION_TASK,
            budget_service_pb2.USAGE_DIMENSION_AGENT,
        ],
        page_size=2,
    )
    for caller in (user, admin):
        request.page_token = ""
        first = await caller.call("BudgetService.GetUsage", request)
        request.page_token = first.next_page_token
        second = await caller.call("BudgetService.GetUsage", request)
        rows = [*first.rows, *second.rows]
        assert not second.next_page_token
        assert all(row.HasField("bucket_time") and row.agent_id for row in rows)
        told = {
            row.model: (row.task_id, row.model_call_count, row.cost_micro_usd,
                        row.unpriced_call_count) for row in rows
        }  # fmt: skip
        assert told == {
            "openai/priced": ("", 1, 66, 0),
            "openai/unknown": (task_id, 1, 0, 1),
            "offline": ("", 1, 0, 0),
        }
        assert [row.model for row in rows] == sorted(told, key=lambda name: made[name])
    total = budget_service_pb2.GetUsageRequest()
    (row,) = (await user.call("BudgetService.GetUsage", total)).rows
    assert (row.model_call_count, row.input_token_count) == (3, 21)
    stranger = service.caller(admin.tenant)
    assert not (await stranger.call("BudgetService.GetUsage", request_of(task_id))).rows
    bad = budget_service_pb2.GetUsageRequest()
    bad.start_time.FromSeconds(2_000_000_000)
    assert list((await refusal(user.call("BudgetService.GetUsage", bad))).fields) == ["end_time"]
    for first in ("0001-01-01T00:00:00.000001Z", "0001-02-03T00:00:00Z", "9999-12-31T23:59:59Z"):
        then = budget_service_pb2.GetUsageRequest()
        then.end_time.FromJsonString(first)
        await user.call("BudgetService.GetUsage", then)


def request_of(task_id: str) -> budget_service_pb2.GetUsageRequest:
    return budget_service_pb2.GetUsageRequest(
        task_id=task_id, group_by=[budget_service_pb2.USAGE_DIMENSION_SESSION]
    )
