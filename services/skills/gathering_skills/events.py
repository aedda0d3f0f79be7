"""What skills tells the mesh; the fields are those of `gathering.events.v1`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.events import DomainEvent


@dataclass(frozen=True)
class WorkspaceCreated(DomainEvent):
    """A directory became a workspace."""

    workspace_id: str
    name: str


@dataclass(frozen=True)
class GrantChanged(DomainEvent):
    """An agent was granted a skill, or lost it."""

    grant_id: str
    agent_id: str
    skill: str
    revoked: bool


@dataclass(frozen=True)
class ExecutionRequested(DomainEvent):
    """A tool is to run."""

    execution_id: str
    tool: str
    agent_id: str
    turn_id: str
    task_id: str
    workspace_id: str


@dataclass(frozen=True)
class ApprovalRequested(DomainEvent):
    """A person is asked whether a tool may run."""

    execution_id: str
    tool: str
    agent_id: str
    turn_id: str
    task_id: str
    digest: str


@dataclass(frozen=True)
class ApprovalClosed(DomainEvent):
    """The question was answered or is not open any more; `outcome` as in the contract's comment."""

    execution_id: str
    tool: str
    agent_id: str
    turn_id: str
    task_id: str
    outcome: str
    user_id: str


@dataclass(frozen=True)
class ExecutionStarted(DomainEvent):
    """A tool began to run; the first attempt is 1."""

    execution_id: str
    tool: str
    agent_id: str
    turn_id: str
    attempt: int


@dataclass(frozen=True)
class ExecutionFinished(DomainEvent):
    """A tool came to an end; `state` as in the contract's comment."""

    execution_id: str
    tool: str
    agent_id: str
    turn_id: str
    task_id: str
    state: str
    duration_ms: int
    reason: str
    artifact_hashes: tuple[str, ...]
