"""An execution and its life; grants and workspaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from gathering_skills.models_tools import Permission

# Anything that JSON can say.
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
JsonObject = Mapping[str, Json]

# The kinds of work that outlive a request.
EXECUTE = "execute"
PURGE = "purge"


class ExecutionState(StrEnum):
    """The life of an execution."""

    REQUESTED = "requested"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN_OUTCOME = "unknown_outcome"
    AWAITING_APPROVAL = "awaiting_approval"
    DENIED = "denied"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Tell whether nothing follows."""
        return not TRANSITIONS[self]


# RUNNING to REQUESTED: interrupted, and the effect allows another run.
TRANSITIONS: Mapping[ExecutionState, frozenset[ExecutionState]] = MappingProxyType(
    {
        ExecutionState.AWAITING_APPROVAL: frozenset(
            {
                ExecutionState.REQUESTED,
                ExecutionState.DENIED,
                ExecutionState.EXPIRED,
                ExecutionState.CANCELLED,
            }
        ),
        ExecutionState.REQUESTED: frozenset({ExecutionState.RUNNING, ExecutionState.CANCELLED}),
        ExecutionState.RUNNING: frozenset(
            {
                ExecutionState.REQUESTED,
                ExecutionState.DONE,
                ExecutionState.FAILED,
                ExecutionState.CANCELLED,
                ExecutionState.UNKNOWN_OUTCOME,
            }
        ),
        ExecutionState.DONE: frozenset(),
        ExecutionState.FAILED: frozenset(),
        ExecutionState.CANCELLED: frozenset(),
        ExecutionState.UNKNOWN_OUTCOME: frozenset(),
        ExecutionState.DENIED: frozenset(),
        ExecutionState.EXPIRED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that was written; the path is relative to the workspace."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants to have run; empty ids where there is none."""

    tool: str
    arguments: JsonObject
    agent_id: str = ""
    workspace_id: str = ""
    turn_id: str = ""
    task_id: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person is asked; who decided, once somebody did. `digest`: of all that would run."""

    digest: str
    expires_at: datetime
    user_id: str = ""
    decided_at: datetime | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's answer, to the question of this digest."""

    user_id: str
    digest: str
    comment: str


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a tool. `principal` is who asked: the user, and the service acting for them."""

    id: str
    request_id: str
    principal: str
    owner_user_id: str
    order: Order
    state: ExecutionState
    created_at: datetime
    trace: str = ""
    output: JsonObject | None = None
    error_reason: str = ""
    error_message: str = ""
    artifacts: tuple[Artifact, ...] = ()
    attempt_count: int = 0
    cancel_requested: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    state: ExecutionState
    output: JsonObject | None = None
    error_reason: str = ""
    error_message: str = ""
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions are listed; empty fields do not restrict."""

    owner: str = ""
    turn_id: str = ""
    task_id: str = ""
    agent_id: str = ""
    workspace_id: str = ""
    state: str = ""


APPROVAL_TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Grant:
    """What an agent may use of a skill. `write_paths`: glob patterns; empty: all.

    A person is asked before a call with one of `ask_permissions` runs, for `approval_timeout`.
    """

    id: str
    agent_id: str
    skill: str
    permissions: frozenset[Permission]
    write_paths: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None
    ask_permissions: frozenset[Permission] = frozenset()
    approval_timeout: timedelta = APPROVAL_TIMEOUT


@dataclass(frozen=True, slots=True)
class GrantWish:
    """A grant to create."""

    agent_id: str
    skill: str
    permissions: frozenset[Permission] = field(default_factory=frozenset)
    write_paths: tuple[str, ...] = ()
    ask_permissions: frozenset[Permission] = frozenset()
    approval_timeout: timedelta = APPROVAL_TIMEOUT


@dataclass(frozen=True, slots=True)
class WorkspaceRecord:
    """A directory of the server; `path` is absolute, without links."""

    id: str
    display_name: str
    path: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file; `sha256` is that of all of it, empty where it is too large to tell."""

    content: bytes
    size_bytes: int
    sha256: str
