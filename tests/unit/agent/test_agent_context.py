"""What a model is told: fitting into its window, unanswered calls, the last step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gathering_agent.agents.models import Agent, AgentFields, AgentState
from gathering_agent.clean import clean_json, clean_object, clean_text, shortened
from gathering_agent.context.context import Bounds, Setting, request, room_of
from gathering_agent.context.marking import unmarked
from gathering_agent.context.prompts import ANSWER_NOW, SUBMIT_IS_MISSING, SUBMIT_NOW
from gathering_agent.models import (
    Background,
    Limits,
    Message,
    Role,
    ToolCall,
    ToolResult,
    Turn,
    TurnState,
)
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_dialogue import ModelRequest, ToolSpec, ToolUse
from gathering_agent.turns.own_tools import submit_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = Agent("agt_1", AgentFields(name="Ada"), AgentState.ACTIVE, 1, "usr_1", NOW, NOW)
TURN = Turn("trn_2", "ses_1", "agt_1", "usr_1", "", TurnState.RUNNING, Limits(), None, NOW)
MODEL = Model("m", "p", "m", 8_000, 1_000)
TOOL = ToolSpec("echo", "Echoes.", {"type": "object"})
SCHEMA = {"type": "object"}


def message(
    sequence: int, role: Role, text: str = "", turn: str = "trn_2", **more: object
) -> Message:
    fields = {"step": 0, **more}
    return Message(f"msg_{sequence}", "ses_1", turn, sequence=sequence, role=role, text=text,
                   **fields)  # type: ignore[arg-type]  # fmt: skip


def asked(history: list[Message], *, step: int = 1, forced: bool = False,
          submit: bool = False, model: Model = MODEL, **changes: Any) -> ModelRequest:  # fmt: skip
    setting = Setting(AGENT, TURN, Background(), model, (TOOL,), workspace=False)
    setting = replace(setting, **changes)
    spec = submit_spec(SCHEMA) if submit else None  # type: ignore[arg-type]
    return request(setting, Bounds(step, 5, forced), history, spec)


def test_older_turns_give_way_before_the_present_one_is_touched() -> None:
    old = [
        message(n, Role.USER if n % 2 else Role.ASSISTANT, f"old {n} " + "x" * 3000, "trn_1")
        for n in range(1, 21)
    ]
    now = [message(21, Role.USER, "now")]
    request = asked([*old, *now])
    told = request.messages
    assert told[-1].text == "now"
    assert "18 messages" in told[0].text
    assert "old 1 " in told[0].text
    assert [one.text[:7] for one in told[1:-1]] == ["old 19 ", "old 20 "]
    assert estimate(request) <= room_of(MODEL)


def test_long_results_of_the_present_turn_are_cut_oldest_first() -> None:
    history = [message(1, Role.USER, "go")]
    for step in (1, 2, 3):
        call = ToolCall(f"trn_2:{step}:0", "echo", {})
        history.append(message(step * 2, Role.ASSISTANT, "", step=step, tool_calls=(call,)))
        result = ToolResult(call.call_id, "echo", f"{step}" * 8000)
        history.append(message(step * 2 + 1, Role.TOOL, "", step=step, tool_results=(result,)))
    told = asked(history, step=4).messages
    texts = [one.tool_results[0].text for one in told if one.tool_results]
    assert "left out" in texts[0]
    assert unmarked(texts[-1]) == "3" * 8000


def test_strategy_is_the_same_in_all_steps_of_a_turn() -> None:
    rest = NOW + timedelta(hours=2)
    history = [
        message(1, Role.USER, "word " * 1500, "trn_1", create_time=NOW),
        message(2, Role.ASSISTANT, "so", "trn_1", create_time=NOW),
        message(3, Role.USER, "go", create_time=rest),
    ]
    strategies = set()
    for step in range(1, 8):
        report = asked(history, step=step).report
        assert report is not None
        strategies.add((report.strategy, report.strategy_reason))
        call = ToolCall(f"trn_2:{step}:0", "echo", {})
        result = ToolResult(call.call_id, "echo", "word " * 900)
        history += [
            message(step * 2 + 2, Role.ASSISTANT, step=step, tool_calls=(call,), create_time=rest),
            message(step * 2 + 3, Role.TOOL, step=step, tool_results=(result,), create_time=rest),
        ]
    assert len(strategies) == 1


def test_calls_that_were_never_answered_are_told_as_such() -> None:
    call = ToolCall("trn_1:1:0", "echo", {})
    history = [
        message(1, Role.USER, "first", "trn_1"),
        message(2, Role.ASSISTANT, "Let me see.", "trn_1", step=1, tool_calls=(call,)),
        message(3, Role.USER, "second"),
    ]
    told = asked(history).messages
    assert not any(one.tool_calls for one in told)
    assert "Let me see." in told[1].text
    assert "ended before" in told[1].text


def test_forced_step_offers_the_result_alone_or_no_tool() -> None:
    history = [message(1, Role.USER, "go")]
    free = asked(history)
    assert ([t.name for t in free.tools], free.tool_use) == (["echo"], ToolUse.AUTO)
    bound = asked(history, step=3, forced=True)
    assert (bound.tool_use, bound.messages[-1].text) == (ToolUse.NONE, ANSWER_NOW)
    handing_in = asked(history, step=3, forced=True, submit=True)
    assert [t.name for t in handing_in.tools] == ["submit_result"]
    assert (handing_in.messages[-1].text, handing_in.tool_calls_left) == (SUBMIT_NOW, 0)


def test_answer_without_the_result_is_followed_by_a_reminder() -> None:
    history = [message(1, Role.USER, "go"), message(2, Role.ASSISTANT, "Done!", step=1)]
    assert asked(history, step=2, submit=True).messages[-1].text == SUBMIT_IS_MISSING


def test_output_leaves_room_for_input_in_a_small_window() -> None:
    small = replace(MODEL, context_window_tokens=8_000, max_output_tokens=8_000)
    assert asked([message(1, Role.USER, "go")], model=small).max_output_tokens == 2_000


def estimate(request: ModelRequest) -> int:
    assert request.report is not None
    return sum(section.tokens for section in request.report.sections)


@given(st.text(st.characters(exclude_categories=[])))
def test_clean_text_can_be_stored(text: str) -> None:
    cleaned = clean_text(text)
    assert "\0" not in cleaned
    cleaned.encode()
    assert clean_text(cleaned) == cleaned


def test_json_that_cannot_be_stored_is_cleaned_or_refused() -> None:
    assert clean_json({"a\0": ["\ud800", float("inf"), 1]}) == {"a\ufffd": ["?", None, 1]}
    deep: dict[str, object] = {}
    for _ in range(40):
        deep = {"x": deep}
    with pytest.raises(ValueError, match="deep"):
        clean_object(deep)  # type: ignore[arg-type]
    assert shortened("abcdef", 3).startswith("abc\n[3 ")
