"""What the verbs need from outside: models, memories, tools, delegations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gathering_agent.dialogue import ModelEvent, ModelRequest, ToolSpec
from gathering_agent.models import Recalled, ToolCall, ToolResult
from gathering_mesh.call import Call


class ModelProvider(Protocol):
    """Speaks with one provider of models."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield text deltas and, last, one Answer.

        Raises ModelFailed (worth another attempt; also for a stream that was cut), ModelRefused,
        ModelNotConfigured. One attempt: no retries inside. Cancelling closes the connection.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """On what behalf a turn works: where its tools run and how its executions are marked."""

    call: Call
    agent_id: str
    session_id: str
    turn_id: str
    task_id: str
    workspace_id: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something to remember. `scope` is `private`, `circle`, `project` or `tenant`."""

    request_id: str
    text: str
    scope: str
    scope_id: str
    kind: str
    importance: float | None
    tags: tuple[str, ...]


class Memories(Protocol):
    """The memory service."""

    async def recall(self, work: Work, query: str, limit: int) -> Sequence[Recalled]:
        """Return what the agent knows that fits, best first."""
        ...

    async def remember(self, work: Work, note: Note) -> str:
        """Store a note once per request id; return the memory's id."""
        ...


@dataclass(frozen=True, slots=True)
class GrantedTool:
    """A tool of the skills service that an agent may use; `timeout` in seconds."""

    spec: ToolSpec
    needs_workspace: bool
    timeout: float


class Skills(Protocol):
    """The skills service."""

    async def granted(self, work: Work) -> Sequence[GrantedTool]:
        """Return the tools that the agent may use, by name."""
        ...

    async def execute(self, work: Work, call: ToolCall, timeout: float) -> ToolResult:
        """Run a tool to its end, named by the call's id; a failure is a result.

        Raises Unavailable when the service cannot be reached; then the same call may be made again.
        """
        ...

    async def cancel_all(self, work: Work) -> int:
        """Cancel the turn's executions that have not ended; return how many there were."""
        ...


class Authority(Protocol):
    """The right to work for users when their tokens have ended."""

    async def delegate(self, call: Call, purpose_id: str) -> str:
        """Return the delegation that the caller gives for this purpose; once per purpose."""
        ...

    async def call(self, tenant: str, delegation_id: str) -> Call:
        """Return a call on behalf of the user who gave the delegation."""
        ...
