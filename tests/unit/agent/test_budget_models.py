"""What budgets rest on: bounds that hold, refusals that say why, and that end a turn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.budgets.convert import caps_message, caps_of
from gathering_agent.budgets.models import Amount, Budget, Cap, Caps, Level, Subject, first_late
from gathering_agent.context.offering import input_bound
from gathering_agent.errors import BudgetExhausted
from gathering_agent.models import Role, ToolCall, ToolResult
from gathering_agent.providers.models_calls import Begun
from gathering_agent.providers.models_catalogue import Model, Prices
from gathering_agent.providers.models_dialogue import Answer, ModelRequest, Said, ToolSpec
from gathering_agent.turns.policy import Policy, verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)
prices = st.none() | st.integers(0, 100_000_000)
counts = st.integers(0, 1_000_000)
amounts = st.none() | st.integers(0, 10**15)
times = st.none() | st.timedeltas(timedelta(0), timedelta(days=9000))


def budget(caps: Caps, spent: Amount = Amount(), name: str = "bgt_1") -> Budget:  # noqa: B008
    return Budget(
        name, Subject(Level.AGENT, "agt_1"), "", "", False, caps, spent, Amount(), 1, NOW, NOW
    )


@given(read=prices, written=prices, cached=prices, stored=prices, plain=counts,
       from_cache=counts, into_cache=counts, output=counts)  # fmt: skip
def test_call_costs_at_most_its_bound(
    *, read: int | None, written: int | None, cached: int | None, stored: int | None,
    plain: int, from_cache: int, into_cache: int, output: int,
) -> None:  # fmt: skip
    found = Prices(read, written, cached, stored)
    total = plain + from_cache + into_cache
    most, cost = found.most(total, output), found.cost(total, output, from_cache, into_cache)
    if most is not None:
        assert cost is not None
        assert cost <= most


@given(st.text(), st.text(), st.text(), st.text())
def test_input_is_bounded_by_its_bytes(system: str, text: str, told: str, name: str) -> None:
    said = (
        Said(Role.USER, text),
        Said(Role.ASSISTANT, tool_calls=(ToolCall("c", name, {"a": text}),)),
        Said(Role.TOOL, tool_results=(ToolResult("c", name, told),)),
    )
    request = ModelRequest("trn_1", 1, "m", system, said, tools=(ToolSpec(name, told, {}),))
    parts = (system, text, text, told, told, name, name, name)
    assert input_bound(request) > sum(len(part.encode()) for part in parts)


@given(counts, counts)
def test_answer_within_the_limits_is_booked_within_its_bound(read: int, written: int) -> None:
    request = ModelRequest("trn_1", 1, "m", "", (), max_output_tokens=written)
    begun = Begun(request, "1-1", Model("m", "p", "m", 9, 9, Prices(3, 15)), NOW, read, True)
    used, bound = begun.answered(Answer(input_tokens=read, output_tokens=written)), begun.bound("")
    assert used.tokens <= bound.tokens
    assert (used.cost or 0) <= (bound.cost or 0)
    assert (used.estimated, bound.estimated) == (False, True)
    assert begun.answered(Answer(counted=False)) == bound


@given(st.builds(Caps, amounts, amounts, amounts, times))
def test_caps_come_back_as_they_were(caps: Caps) -> None:
    assert caps_of(caps_message(caps)) == caps


def test_budget_that_is_used_up_says_which_cap() -> None:
    late = NOW + timedelta(seconds=61)
    cases = (
        (Caps(tokens=10), Amount(tokens=10), NOW, Cap.TOKENS),
        (Caps(calls=0), Amount(), NOW, Cap.MODEL_CALLS),
        (Caps(cost=5), Amount(cost=6), NOW, Cap.COST),
        (Caps(wall_time=timedelta(seconds=60)), Amount(), late, Cap.WALL_TIME),
    )
    for caps, spent, now, cap in cases:
        refusal = budget(caps, spent).used_up(now)
        assert refusal is not None
        assert (refusal.cap, refusal.left) == (cap, 0)
        assert "agent agt_1" in str(refusal)
        assert cap in str(refusal)
    free = Caps(10, 5, 3, timedelta(seconds=60))
    assert budget(free, Amount(9, 5, 2)).used_up(NOW) is None  # a free model costs nothing


def test_the_first_wall_time_counts() -> None:
    made = [budget(Caps(wall_time=timedelta(seconds=n)), name=f"bgt_{n}") for n in (30, 10, 20)]
    assert first_late([*made, budget(Caps())]) == made[1]
    assert first_late([budget(Caps())]) is None


def test_refused_call_ends_the_turn_at_once() -> None:
    refusal = budget(Caps(tokens=0)).used_up(NOW)
    assert refusal is not None
    error = BudgetExhausted(refusal)
    assert verdict(error, 1, Policy()) is error
    assert error.metadata["limit"] == "0"
