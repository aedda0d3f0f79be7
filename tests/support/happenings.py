"""Events of the contract that tests of the mesh emit, whatever they stand for elsewhere."""

from dataclasses import dataclass

from gathering_mesh.events import DomainEvent


@dataclass(frozen=True)
class MemoryForgotten(DomainEvent):
    """An event with one id."""

    memory_id: str


@dataclass(frozen=True)
class MemorySuperseded(DomainEvent):
    """An event with two ids."""

    memory_id: str
    by_memory_id: str


@dataclass(frozen=True)
class ScorePart:
    """A message inside an event."""

    name: str
    value: float
    weight: float


@dataclass(frozen=True)
class TaskOffered(DomainEvent):
    """An event with a list of messages."""

    task_id: str
    agent_id: str | None
    score: float
    score_parts: tuple[ScorePart, ...] = ()


@dataclass(frozen=True)
class TaskCreated(DomainEvent):
    """An event with a list of texts."""

    task_id: str
    required_competences: tuple[str, ...] = ()
