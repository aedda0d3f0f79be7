"""The loop guard: what counts as going in circles, and that a takeover decides the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.models import Message, Role, ToolCall, ToolResult
from gathering_agent.turns.repeating import IN_VAIN, Repeating, Tolerance

TOLERANCE = Tolerance(calls=3, rounds=4)
Round = Sequence[tuple[str, str]]  # tools, and what they give


def messages_of(rounds: Sequence[Round], tolerance: Tolerance = TOLERANCE) -> list[Message]:
    """Return the messages of a turn in which these rounds were asked for."""
    repeating = Repeating(tolerance)
    found = []
    for step, asked in enumerate(rounds, 1):
        calls = tuple(ToolCall(f"t:{step}:{n}", tool, {}) for n, (tool, _) in enumerate(asked))
        vain = repeating.in_vain(calls)
        results = tuple(
            ToolResult(call.call_id, call.tool, IN_VAIN if call.call_id in vain else text)
            for call, (_, text) in zip(calls, asked, strict=True)
        )
        repeating.take(calls, results)
        found.append(said(step, Role.ASSISTANT, tool_calls=calls))
        found.append(said(step, Role.TOOL, tool_results=results))
        if repeating.over:
            break
    return found


def said(step: int, role: Role, **fields: tuple[object, ...]) -> Message:
    return Message("m", "s", "t", step, 1, role, "", **fields)  # type: ignore[arg-type]


def ran(messages: Sequence[Message]) -> int:
    """Count the rounds of which a call was run."""
    return sum(any(r.text != IN_VAIN for r in m.tool_results) for m in messages if m.tool_results)


def rounds_of(*tools: str, text: Callable[[int], str] = lambda n: "same") -> list[Round]:
    return [[(tool, text(n))] for n, tool in enumerate(islice(cycle(tools), 40))]


@pytest.mark.parametrize(
    ("tools", "runs"), [(("a",), 3), (("a", "b"), 6), (("a", "b", "c", "d", "e", "f"), 10)]
)
def test_same_calls_in_a_circle_are_told_once_and_then_it_is_over(
    tools: tuple[str, ...], runs: int
) -> None:
    messages = messages_of(rounds_of(*tools))
    assert ran(messages) == runs
    assert len(messages) == 2 * (runs + 2)
    assert Repeating(TOLERANCE, messages).over


def test_results_that_change_are_progress() -> None:
    messages = messages_of(rounds_of("a", text=str))
    assert ran(messages) == 40
    assert not Repeating(TOLERANCE, messages).over


def test_model_that_was_told_and_does_something_else_goes_on() -> None:
    same: Round = [("a", "same")]
    rounds = [same, same, same, same, [("b", "new")], same, [("c", "new")], same, [("d", "new")]]
    assert not Repeating(TOLERANCE, messages_of(rounds)).over


def test_check_that_repeats_itself_while_something_else_changes_is_run_each_time() -> None:
    check: Round = [("check", "3 failed")]
    rounds = [one for n in range(8) for one in (check, [("edit", f"revision {n}")])]
    assert ran(messages_of(rounds)) == 16


def test_call_asked_for_many_times_at_once_is_run_so_often_at_most() -> None:
    calls = [ToolCall(f"t:1:{n}", "a", {}) for n in range(9)]
    vain = Repeating(TOLERANCE).in_vain(calls)
    assert vain == {f"t:1:{n}" for n in range(3, 9)}


def test_guard_that_is_off_lets_everything_through() -> None:
    assert ran(messages_of(rounds_of("a"), Tolerance(0, 0))) == 40


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=3)))
def test_who_takes_over_decides_as_who_went_on(rounds: list[list[tuple[str, str]]]) -> None:
    messages = messages_of(rounds)
    going_on = Repeating(TOLERANCE)
    calls = (ToolCall("t:9:0", "a", {}), ToolCall("t:9:1", "b", {}))
    for place in range(0, len(messages), 2):
        going_on.take(messages[place].tool_calls, messages[place + 1].tool_results)
        taken_over = Repeating(TOLERANCE, messages[: place + 2])
        assert taken_over.in_vain(calls) == going_on.in_vain(calls)
        assert taken_over.over == going_on.over
