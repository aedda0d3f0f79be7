"""What a model is told in one step: the dialogue so far, cut to the model's window."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gathering_agent.clean import shortened
from gathering_agent.models import Background, Message, Role, ToolResult, Turn
from gathering_agent.models_agents import Agent
from gathering_agent.models_catalogue import Model
from gathering_agent.models_dialogue import ModelRequest, Said, ToolSpec, ToolUse
from gathering_agent.prompts import (
    ANSWER_NOW,
    NOT_ANSWERED,
    SUBMIT_IS_MISSING,
    SUBMIT_NOW,
    system_prompt,
)
from gathering_agent.resuming import pause_before

BYTES_PER_TOKEN = 3  # fewer than any tokeniser needs for prose or code, so that it surely fits
_CUT_RESULT = 500  # characters that stay of a tool result that has to give room
_LEAST_OUTPUT = 1024
# Tokens of a provider's own around a text, with ids and marks, and before them all.
_FRAME = 128
_PREAMBLE = 2048


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same over the steps of a turn."""

    agent: Agent
    turn: Turn
    background: Background
    model: Model
    tools: tuple[ToolSpec, ...]
    workspace: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a step may still do. `forced`: it is asked to end without further tools."""

    step: int
    tool_calls_left: int
    forced: bool


def request(
    setting: Setting, bounds: Bounds, history: Sequence[Message], submit: ToolSpec | None
) -> ModelRequest:
    """Return the model call of a step; `history` are the session's messages, oldest first."""
    turn, model = setting.turn, setting.model
    tools, tool_use = _offered(setting, bounds, submit)
    system = system_prompt(
        setting.agent,
        turn,
        setting.background,
        workspace=setting.workspace,
        pause=pause_before(history, turn.id),
    )
    output = min(model.max_output_tokens, max(_LEAST_OUTPUT, model.context_window_tokens // 4))
    room = model.context_window_tokens - output - tokens(system, _as_text(tools))
    said = [*_fitting(history, turn.id, room), *_reminder(bounds, history, submit)]
    return ModelRequest(
        turn_id=turn.id,
        step=bounds.step,
        model=model.wire_name,
        system=system,
        messages=tuple(said),
        tools=tools,
        tool_use=tool_use,
        max_output_tokens=output,
        tool_calls_left=0 if bounds.forced else bounds.tool_calls_left,
        memories=tuple(memory.text for memory in setting.background.memories),
        result_schema=turn.result_schema,
    )


def _offered(
    setting: Setting, bounds: Bounds, submit: ToolSpec | None
) -> tuple[tuple[ToolSpec, ...], ToolUse]:
    """Return the tools of a step. A dialogue with tool calls must keep naming some tools."""
    if not bounds.forced:
        return (*setting.tools, *((submit,) if submit else ())), ToolUse.AUTO
    if submit:
        return (submit,), ToolUse.AUTO
    return setting.tools, ToolUse.NONE


def _reminder(
    bounds: Bounds, history: Sequence[Message], submit: ToolSpec | None
) -> Iterable[Said]:
    """Yield what is said behind the dialogue without being part of it."""
    if bounds.forced and bounds.step > 1:
        yield Said(Role.USER, SUBMIT_NOW if submit else ANSWER_NOW)
    elif submit and history and history[-1].role is Role.ASSISTANT:
        yield Said(Role.USER, SUBMIT_IS_MISSING)


def _fitting(history: Sequence[Message], turn_id: str, room: int) -> list[Said]:
    """Return the dialogue in at most `room` tokens: older turns go first, then long results."""
    said = _dialogue(history)
    first = next(i for i, message in enumerate(history) if message.turn_id == turn_id)
    starts = [i for i in range(first + 1) if history[i].role is Role.USER]
    cut = next((i for i in starts if _size(said[i:]) <= room), first)
    kept = said[cut:]
    for place, one in enumerate(kept):
        if _size(kept) <= room:
            break
        kept[place] = _cut(one)
    return kept


def _dialogue(history: Sequence[Message]) -> list[Said]:
    """Return messages as a model takes them: each tool call is answered in the next message.

    Calls of a turn that ended before they were answered get an answer that says so, as part of
    the next message's place, so that the list keeps its indices.
    """
    said = [_said(message) for message in history]
    following = [*history[1:], None]
    for place, (message, after) in enumerate(zip(history, following, strict=True)):
        open_calls = message.tool_calls and (after is None or after.role is not Role.TOOL)
        if open_calls and after is not None:
            text = f"{said[place].text}\n[{NOT_ANSWERED}]".strip()
            said[place] = Said(Role.ASSISTANT, text)
    return said


def _said(message: Message) -> Said:
    return Said(
        message.role,
        message.text,
        message.tool_calls,
        message.tool_results,
        message.native,
        message.images,
    )


def _cut(said: Said) -> Said:
    """Return a message with its long tool results cut short."""
    if said.role is not Role.TOOL:
        return said
    results = tuple(_cut_result(result) for result in said.tool_results)
    return replace(said, tool_results=results)


def _cut_result(result: ToolResult) -> ToolResult:
    return replace(result, text=shortened(result.text, _CUT_RESULT))


def _size(said: Sequence[Said]) -> int:
    return sum(tokens(*_parts(one)) for one in said) + _image_tokens(said)


def _image_tokens(said: Iterable[Said]) -> int:
    return sum(image.tokens for one in said for image in one.images)


def _texts(said: Iterable[Said]) -> Iterable[str]:
    return (text for one in said for text in _parts(one))


def _parts(one: Said) -> Iterable[str]:
    yield one.text
    yield from (f"{call.tool}{json.dumps(call.arguments)}" for call in one.tool_calls)
    yield from (f"{result.tool}{result.text}" for result in one.tool_results)
    yield json.dumps(one.native.content) if one.native else ""


def _as_text(tools: Sequence[ToolSpec]) -> str:
    return "".join(f"{t.name}{t.description}{json.dumps(t.parameters)}" for t in tools)


def input_bound(asked: ModelRequest) -> int:
    """Return what the input of a model call can have at most, in tokens.

    No token stands for less than a byte of its text; what an image costs is in the catalogue.
    Besides there is what frames messages, calls and tools in the provider's prompt.
    """
    pieces = [asked.system, _as_text(asked.tools), *_texts(asked.messages)]
    images = sum(len(said.images) for said in asked.messages)
    frames = len(pieces) + len(asked.messages) + len(asked.tools) + images
    text = sum(len(piece.encode()) for piece in pieces)
    return text + _image_tokens(asked.messages) + _FRAME * frames + _PREAMBLE


def tokens(*texts: str) -> int:
    """Return a bound of the tokens of texts, each with what frames it."""
    return sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN + 8 * len(texts)
