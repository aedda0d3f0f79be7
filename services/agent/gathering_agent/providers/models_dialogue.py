"""What is said to a model and what it answers, in words that no provider owns."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

from gathering_agent.context.models import Report
from gathering_agent.models import JsonObject, Native, Role, StopReason, ToolCall, ToolResult
from gathering_agent.sessions.models_images import Image


@dataclass(frozen=True)
class ToolSpec:
    """A tool that the model may ask for; `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: JsonObject

    @cached_property
    def text(self) -> str:
        """All that a model is told of it."""
        return f"{self.name}{self.description}{json.dumps(self.parameters)}"


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the dialogue."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    native: Native | None = None
    images: tuple[Image, ...] = ()  # with data


class Purpose(StrEnum):
    """What a model is called for."""

    ANSWER = "answer"
    CONDENSE = "condense"
    REMEMBER = "remember"


class ToolUse(StrEnum):
    """Whether the model may ask for tools."""

    AUTO = "auto"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `turn_id` and `step` name the tool calls that come of it."""

    turn_id: str
    step: int
    model: str  # as the provider names it
    system: str
    messages: tuple[Said, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_use: ToolUse = ToolUse.AUTO
    max_output_tokens: int = 4096
    tool_calls_left: int = 0
    memories: tuple[str, ...] = ()  # also told in `system`; for models that do not read prose
    result_schema: JsonObject | None = None  # likewise
    purpose: Purpose = Purpose.ANSWER
    report: Report | None = None  # what went into it; not sent


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a model call: what it asks for, why it stopped, what it used.

    The text is that of all deltas before. Tokens are the provider's own count. Of the input tokens
    `cached_input_tokens` came from its cache and `cache_write_tokens` went into it. `counted`:
    whether it told what was used; else the counts are zero and say nothing.
    """

    tool_calls: tuple[ToolCall, ...] = ()
    stop_reason: StopReason = StopReason.END
    input_tokens: int = 0
    output_tokens: int = 0
    native: Native | None = field(default=None)
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    counted: bool = True


ModelEvent: TypeAlias = TextDelta | Answer
