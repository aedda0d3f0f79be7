"""What the service keeps: sessions, messages, turns, and the life of a turn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, is_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from gathering_agent.context.models import Project, Strategy
from gathering_agent.errors import Refusal
from gathering_agent.sessions.models_images import Image

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

DEFAULT_TOOL_CALLS = 100


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation with an agent.

    `delegation_id` is the right on which turns from before worked; those of now have their own.
    `condensed_upto` is the sequence of its newest digest, None where there is none.
    """

    id: str
    agent_id: str
    owner_user_id: str
    title: str
    workspace_id: str
    delegation_id: str
    create_time: datetime
    last_message_time: datetime | None
    message_count: int
    version: int = 1
    parent_session_id: str = ""
    parent_message_id: str = ""
    imported: bool = False
    condensed_upto: int | None = None
    resume_strategy: Strategy = Strategy.AUTO


@dataclass(frozen=True, slots=True)
class Right:
    """A delegation to work for a session's owner, empty where there is none.

    `root` is the delegation or API key with whose token it was made, with which it ends; empty for
    the owner's own. `replaced` counts those before it that ended.
    """

    session_id: str
    root: str
    delegation_id: str = ""
    replaced: int = 0

    @property
    def name(self) -> str:
        """Name the next delegation, the same for all who ask for it."""
        return f"{self.session_id}:{self.root}:{self.replaced}"


class Role(StrEnum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks for.

    `problem` says why the call cannot be made at all (its arguments are no JSON object).
    """

    call_id: str  # <turn>:<step>:<place>
    tool: str
    arguments: JsonObject
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came of a tool call, as the model is shown it."""

    call_id: str
    tool: str
    text: str
    failed: bool = False
    execution_id: str = ""


@dataclass(frozen=True, slots=True)
class Native:
    """An assistant message as its provider wrote it, to be given back unchanged.

    Models that think sign their thoughts and refuse a continuation without them; only the model
    that wrote a message can read it.
    """

    model: str
    content: list[JsonValue]


@dataclass(frozen=True, slots=True)
class Message:
    """Something that was said or done; `sequence` counts from 1 in its session.

    Those that were forked or imported are of no turn: `turn_id` is empty.
    """

    id: str
    session_id: str
    turn_id: str
    step: int
    sequence: int
    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    native: Native | None = None
    images: tuple[Image, ...] = ()
    generation: str = ""  # which attempt at the step wrote it, see live.py
    create_time: datetime | None = None


class TurnState(StrEnum):
    """The life of a turn."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TRANSITIONS: dict[TurnState, frozenset[TurnState]] = {
    TurnState.WAITING: frozenset({TurnState.QUEUED, TurnState.FAILED, TurnState.CANCELLED}),
    TurnState.QUEUED: frozenset({TurnState.RUNNING, TurnState.FAILED, TurnState.CANCELLED}),
    TurnState.RUNNING: frozenset({TurnState.COMPLETED, TurnState.FAILED, TurnState.CANCELLED}),
    TurnState.COMPLETED: frozenset(),
    TurnState.FAILED: frozenset(),
    TurnState.CANCELLED: frozenset(),
}
LIVE = (TurnState.QUEUED, TurnState.RUNNING)  # one of a session at most


class StopReason(StrEnum):
    """Why a turn was completed."""

    END = "end"
    STEP_LIMIT = "step_limit"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    LOOP = "loop"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one turn: model calls, and tool calls without `submit_result`."""

    max_steps: int = 0
    max_tool_calls: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used; `failed_tokens` is a bound of what failed calls read and wrote.

    Costs are micro-USD, None where a price is not known.
    """

    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failed_calls: int = 0
    failed_tokens: int = 0
    cached_tokens: int = 0
    cost: int | None = 0
    failed_cost: int | None = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.failed_calls + other.failed_calls,
            self.failed_tokens + other.failed_tokens,
            self.cached_tokens + other.cached_tokens,
            _both(self.cost, other.cost),
            _both(self.failed_cost, other.failed_cost),
        )


def _both(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True)
class Recalled:
    """A memory as it was recalled for a turn."""

    memory_id: str
    text: str
    scope: str
    score: float


@dataclass(frozen=True, slots=True)
class Background:
    """What a turn knew when it began; stored with it, so that a takeover knows the same."""

    memories: tuple[Recalled, ...] = ()
    recall_failed: bool = False
    project: Project | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of an agent."""

    id: str
    session_id: str
    agent_id: str
    owner_user_id: str
    task_id: str
    state: TurnState
    limits: Limits
    result_schema: JsonObject | None
    create_time: datetime
    usage: Usage = field(default=Usage())
    text: str = ""
    result: JsonObject | None = None
    stop_reason: StopReason | None = None
    error_reason: str = ""
    error_message: str = ""
    refusal: Refusal | None = None
    model: str = ""
    background: Background | None = None
    delegation_id: str = ""  # the right to work for who spoke
    trace: str = ""  # W3C traceparent of the request that started it
    end_time: datetime | None = None
    agent_version: int = 0  # of the agent's definition; 0 where it is not known
    place: int = 0  # among those that wait for their session
    start_time: datetime | None = None  # when it had waited
    deadline: datetime | None = None  # that the caller named
    resume_strategy: Strategy = Strategy.AUTO

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen."""
        return not TRANSITIONS[self.state]

    @property
    def tool_limit(self) -> int:
        """Return how many tool calls it may make."""
        return self.limits.max_tool_calls or DEFAULT_TOOL_CALLS

    @property
    def audience(self) -> tuple[str, ...]:
        """Return who may follow it: a chat its owner, work on a task everybody in the tenant."""
        return () if self.task_id else (self.owner_user_id,)


def call_id(turn_id: str, step: int, place: int) -> str:
    """Name a tool call; the execution at the skills service has the same name."""
    return f"{turn_id}:{step}:{place}"


def step_of(call_id: str) -> int:
    """Return the step that asked for a tool call."""
    return int(call_id.split(":")[1])


def as_text(value: object) -> str:
    """Return JSON values, and dataclasses of them as objects, as compact text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_fields)


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass: unlike `asdict` without copies of what is in them."""
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no place in JSON")
    return {name: getattr(value, name) for name in value.__dataclass_fields__}
