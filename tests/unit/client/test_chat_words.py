"""What a chat shows: blocks of Markdown, costs and failures in words, nothing that steers."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gathering.agent.v1 import budget_pb2, session_pb2, turn_context_pb2, turn_pb2
from gathering_client.chatting.blocks import Blocks
from gathering_client.chatting.screen import TerminalScreen
from gathering_client.chatting.told import Told
from gathering_client.chatting.words import (
    context_rows,
    context_words,
    dollars,
    failure_words,
    refusal_words,
    result_words,
    usage_words,
)
from gathering_client.output import visible

LINES = st.lists(
    st.sampled_from(["", "words", "# head", "```", "~~~", "- item", "    code", "```python"])
)


@given(LINES, st.integers(1, 7))
def test_blocks_and_rest_are_the_text_however_it_is_cut(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    blocks = Blocks()
    done = [
        block for start in range(0, len(text), size) for block in blocks.add(text[start:][:size])
    ]
    told = "\n".join([*done, blocks.rest])
    assert [line for line in told.split("\n") if line] == [line for line in lines if line]
    for block in done:
        assert block.strip()


def test_code_is_not_cut_at_its_empty_lines() -> None:
    blocks = Blocks()
    assert blocks.add("Look:\n\n```py\na = 1\n\nb = 2\n") == ["Look:"]
    assert blocks.tail(2) == "```\n\nb = 2"
    assert blocks.add("```\n\nSo.") == ["```py\na = 1\n\nb = 2\n```"]
    assert blocks.rest == "So."


@pytest.mark.parametrize(
    ("millionths", "words"),
    [(0, "$0.00"), (1, "$0.000001"), (2_500_000, "$2.50"), (12_340_000, "$12.34")],
)
def test_dollars_have_the_digits_that_they_need(millionths: int, words: str) -> None:
    assert dollars(millionths) == words


def test_used_up_budget_names_cap_and_what_is_left() -> None:
    refusal = budget_pb2.BudgetRefusal(
        level=budget_pb2.BUDGET_LEVEL_SESSION,
        cap=budget_pb2.BUDGET_CAP_COST,
        limit=2_000_000,
        left=10,
        wanted=500,
    )
    words = refusal_words(refusal)
    assert "session" in words
    assert "of $2.00 there are $0.00001 left" in words
    turn = turn_pb2.Turn(error_reason="BUDGET_EXHAUSTED", budget_refusal=refusal)
    assert words in failure_words(turn)
    other = turn_pb2.Turn(error_reason="MODEL_NOT_CONFIGURED", error_message="no \x1b[31mkey")
    assert "\x1b" not in failure_words(other)
    assert "gathering models" in failure_words(other)


def test_cost_is_told_where_it_is_known() -> None:
    usage = turn_pb2.Usage(model_call_count=1, input_token_count=5, output_token_count=2)
    assert "$" not in usage_words(turn_pb2.Turn(model="m", usage=usage))
    usage.cost_micro_usd = 0
    assert "$0.00" in usage_words(turn_pb2.Turn(model="m", usage=usage))


def test_results_are_one_line() -> None:
    def words(text: str) -> str:
        return result_words(session_pb2.ToolResult(text=text))

    assert words("\n\nfirst\nsecond") == "first"
    assert words("") == "nothing"
    assert words('{"content": "a very long text\\nwith lines", "n": 1}').startswith("n=1, ")
    assert len(words("x" * 1000)) == 100


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "\x9b31m", "a\rb", "\u202eabc", "\x08"])
def test_what_steers_a_terminal_is_made_visible(text: str) -> None:
    shown = visible(text)
    assert "�" in shown
    assert len(shown) == len(text)
    assert visible("tab\tline\nß→") == "tab\tline\nß→"


def shown(frames: Iterable[turn_pb2.TurnFrame]) -> str:
    """Return what a terminal of 80 columns has got in the end."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=False, width=80, highlight=False)
    screen = TerminalScreen(console)
    for frame in frames:
        screen.show(frame)
    screen.pause()
    return out.getvalue()


def delta(text: str) -> turn_pb2.TurnFrame:
    return turn_pb2.TurnFrame(text_delta=turn_pb2.TextDelta(step=1, text=text))


WITHDRAWN = turn_pb2.TurnFrame(step_withdrawn=turn_pb2.StepWithdrawn(step=1))
STEP = turn_pb2.TurnFrame(step=session_pb2.Message(step=1))


def test_withdrawn_text_is_not_shown_or_said_to_be_void() -> None:
    text = shown([delta("lost wo"), WITHDRAWN, delta("kept words"), STEP])
    assert "lost" not in text
    assert "kept words" in text
    text = shown([delta("a block\n\nand mo"), WITHDRAWN, delta("kept words"), STEP])
    assert text.index("a block") < text.index("is void") < text.index("kept words")
    assert "and mo" not in text


def test_text_is_shown_once_and_steers_nothing() -> None:
    text = shown([delta("One *two*.\n\nThr"), delta("ee\x1b]0;x\x07 [red]four[/]"), STEP])
    assert text.count("One two.") == text.count("Three") == 1
    assert "\x1b]0" not in text
    assert "[red]four[/]" in text


def output(offset: int, text: str, attempt: int = 1, call: str = "c") -> turn_pb2.ToolOutput:
    return turn_pb2.ToolOutput(
        step=1, call_id=call, attempt=attempt, offset_bytes=offset, text=text
    )


def test_last_lines_of_what_tools_tell_are_shown_once() -> None:
    told = Told(3)
    told.add(output(0, "one\ntwö\nthr"))
    assert told.lines() == ["one", "twö", "thr"]
    told.add(output(4, "twö\nthree\nfour\n"))  # of a stream that was cut and begun again
    assert told.lines() == ["twö", "three", "four"]
    told.add(output(100, "behind a gap\x1b[2J"))
    told.add(output(0, "another", call="d"))
    assert told.lines() == ["four", "behind a gap\ufffd[2J", "another"]
    told.add(output(0, "anew", attempt=2))
    told.add(output(112, "void"))
    assert sorted(told.lines()) == ["anew", "another", "four"]
    told.clear()
    assert told.lines() == []


def test_what_tools_tell_is_shown_while_they_run_and_does_not_stay() -> None:
    def moving() -> list[str]:
        beside = Console(file=io.StringIO(), width=40, highlight=False)
        with beside.capture() as seen:
            beside.print(screen._moving())
        return seen.get().splitlines()

    screen = TerminalScreen(Console(file=io.StringIO(), force_terminal=False, width=40))
    screen.show(turn_pb2.TurnFrame(tool_output=output(0, "[red]found[/] it" + "x" * 100 + "\n")))
    found, going_on = moving()
    assert found.startswith("  │ [red]found[/] itxxx")
    assert "Ctrl-C cancels" in going_on
    screen.show(turn_pb2.TurnFrame(tool_results=session_pb2.Message(step=1)))
    assert len(moving()) == 1
    screen.pause()


def test_context_is_told_by_sections() -> None:
    context = turn_context_pb2.TurnContext(
        model="m",
        context_window_tokens=1000,
        estimated_input_tokens=100,
        resume_strategy=session_pb2.RESUME_STRATEGY_TASK_FOCUSED,
        resume_reason="it rested",
        sections=[
            turn_context_pb2.ContextSection(
                name="window",
                token_count=7,
                state=turn_context_pb2.CONTEXT_STATE_LEFT_OUT,
                reason="no \x1broom",
            )
        ],
    )
    words = context_words(context)
    assert "100 of 1000 tokens (10.0 %)" in words
    assert "task-focused, it rested" in words
    assert context_rows(context) == [("window", "7", "left out", "no �room")]
    context.counted_input_tokens = 90
    assert "90 of 1000" in context_words(context)
