"""What this service tells the others; see `gathering/events/v1/agent_events.proto`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.events import DomainEvent


@dataclass(frozen=True)
class AgentCreated(DomainEvent):
    """An agent was created."""

    agent_id: str
    name: str
    role: str
    template: str = ""


@dataclass(frozen=True)
class AgentUpdated(DomainEvent):
    """An agent's definition changed."""

    agent_id: str
    changed_fields: tuple[str, ...]
    version: int


@dataclass(frozen=True)
class AgentArchived(DomainEvent):
    """An agent takes no turns and no offers until it is restored."""

    agent_id: str


@dataclass(frozen=True)
class SessionCreated(DomainEvent):
    """A session of an agent was created."""

    session_id: str
    agent_id: str
    user_id: str
    parent_session_id: str = ""
    imported: bool = False


@dataclass(frozen=True)
class SessionUpdated(DomainEvent):
    """A session was changed."""

    session_id: str
    agent_id: str
    user_id: str
    changed_fields: tuple[str, ...]


@dataclass(frozen=True)
class SessionDeleted(DomainEvent):
    """A session was deleted, with its messages and all text of its turns."""

    session_id: str
    agent_id: str
    user_id: str


@dataclass(frozen=True)
class TurnStarted(DomainEvent):
    """A turn was accepted and will run."""

    turn_id: str
    session_id: str
    agent_id: str
    task_id: str


@dataclass(frozen=True)
class TurnStepCompleted(DomainEvent):
    """One model call of a turn is stored, with the tool calls that it asked for."""

    turn_id: str
    agent_id: str
    step: int
    model: str
    input_token_count: int
    output_token_count: int
    tool_names: tuple[str, ...]
    task_id: str


@dataclass(frozen=True)
class TurnCompleted(DomainEvent):
    """A turn is done and its answer stored."""

    turn_id: str
    session_id: str
    agent_id: str
    task_id: str
    step_count: int
    input_token_count: int
    output_token_count: int
    stop_reason: str


@dataclass(frozen=True)
class TurnFailed(DomainEvent):
    """A turn failed; what was stored of it is kept."""

    turn_id: str
    session_id: str
    agent_id: str
    task_id: str
    reason: str


@dataclass(frozen=True)
class BudgetSet(DomainEvent):
    """The caps of a budget were set."""

    budget_id: str
    level: str
    subject_id: str


@dataclass(frozen=True)
class BudgetDeleted(DomainEvent):
    """A budget bounds nothing any more."""

    budget_id: str
    level: str
    subject_id: str


@dataclass(frozen=True)
class BudgetExhausted(DomainEvent):
    """A cap refused a model call, and the turn failed."""

    turn_id: str
    agent_id: str
    task_id: str
    budget_id: str
    level: str
    subject_id: str
    cap: str
    limit: int
    left: int


@dataclass(frozen=True)
class TurnCancelled(DomainEvent):
    """A turn was cancelled."""

    turn_id: str
    session_id: str
    agent_id: str
    task_id: str


@dataclass(frozen=True)
class ProviderKeySet(DomainEvent):
    """A tenant's own key of a provider was set."""

    provider_key_id: str
    provider: str


@dataclass(frozen=True)
class ProviderKeyDeleted(DomainEvent):
    """A tenant's own key of a provider was deleted."""

    provider_key_id: str
    provider: str
