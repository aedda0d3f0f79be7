"""What this service tells the mesh; each class is a message of `gathering.events.v1`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.events import DomainEvent


@dataclass(frozen=True)
class CircleCreated(DomainEvent):
    """A circle was created."""

    circle_id: str
    name: str


@dataclass(frozen=True)
class CircleUpdated(DomainEvent):
    """A circle's definition changed."""

    circle_id: str
    changed_fields: tuple[str, ...]


@dataclass(frozen=True)
class CircleMemberAdded(DomainEvent):
    """An agent joined a circle."""

    circle_id: str
    agent_id: str
    agent_name: str


@dataclass(frozen=True)
class CircleMemberRemoved(DomainEvent):
    """An agent left a circle."""

    circle_id: str
    agent_id: str


@dataclass(frozen=True)
class TaskCreated(DomainEvent):
    """A task was given to a circle."""

    task_id: str
    circle_id: str
    priority: int
    required_competences: tuple[str, ...]


@dataclass(frozen=True)
class ScorePart:
    """One part of a score."""

    name: str
    value: float
    weight: float


@dataclass(frozen=True)
class TaskOffered(DomainEvent):
    """The facilitator offered a task to an agent."""

    task_id: str
    circle_id: str
    offer_id: str
    agent_id: str
    agent_name: str
    score: float
    score_parts: tuple[ScorePart, ...]


@dataclass(frozen=True)
class OfferAccepted(DomainEvent):
    """An agent accepted an offer."""

    task_id: str
    circle_id: str
    offer_id: str
    agent_id: str
    agent_name: str


@dataclass(frozen=True)
class OfferDeclined(DomainEvent):
    """An agent declined an offer."""

    task_id: str
    circle_id: str
    offer_id: str
    agent_id: str
    agent_name: str
    reason: str


@dataclass(frozen=True)
class OfferExpired(DomainEvent):
    """Nobody answered an offer in time."""

    task_id: str
    circle_id: str
    offer_id: str
    agent_id: str


@dataclass(frozen=True)
class TaskStarted(DomainEvent):
    """An agent began a round of work."""

    task_id: str
    circle_id: str
    agent_id: str
    round: int
    turn_id: str


@dataclass(frozen=True)
class TaskSubmitted(DomainEvent):
    """An agent handed in its work."""

    task_id: str
    circle_id: str
    agent_id: str
    round: int
    artifact_hashes: tuple[str, ...]


@dataclass(frozen=True)
class ReviewRequested(DomainEvent):
    """A peer was asked to review."""

    review_id: str
    task_id: str
    circle_id: str
    reviewer_agent_id: str
    reviewer_name: str
    round: int


@dataclass(frozen=True)
class ReviewCompleted(DomainEvent):
    """A review was given."""

    review_id: str
    task_id: str
    circle_id: str
    reviewer_agent_id: str
    reviewer_name: str
    round: int
    verdict: str
    score: float


@dataclass(frozen=True)
class TaskCompleted(DomainEvent):
    """A task is done."""

    task_id: str
    circle_id: str
    agent_id: str
    round_count: int


@dataclass(frozen=True)
class TaskFailed(DomainEvent):
    """A task failed for good."""

    task_id: str
    circle_id: str
    reason: str


@dataclass(frozen=True)
class TaskCancelled(DomainEvent):
    """A task was cancelled."""

    task_id: str
    circle_id: str


@dataclass(frozen=True)
class TaskEscalated(DomainEvent):
    """A task needs a human."""

    task_id: str
    circle_id: str
    reason: str
