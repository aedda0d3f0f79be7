"""Agents: who they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

DEFAULT_STRENGTH = 0.8
DEFAULT_TASKS = 1
DEFAULT_STEPS = 25


class AgentState(StrEnum):
    """The life of an agent, to and fro."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class Style(StrEnum):
    """How an agent speaks."""

    BALANCED = "balanced"
    CONCISE = "concise"
    DETAILED = "detailed"
    TECHNICAL = "technical"
    FRIENDLY = "friendly"
    FORMAL = "formal"


@dataclass(frozen=True, slots=True)
class Competence:
    """Something that an agent is good at; `strength` from 0 to 1."""

    name: str
    strength: float = DEFAULT_STRENGTH


@dataclass(frozen=True, slots=True)
class Persona:
    """Who an agent is."""

    role: str = ""
    base_prompt: str = ""
    traits: tuple[str, ...] = ()
    style: Style = Style.BALANCED
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentFields:
    """What a user may say of an agent; 0 and empty stand for the defaults."""

    name: str = ""
    persona: Persona = Persona()
    competences: tuple[Competence, ...] = ()
    model: str = ""
    max_concurrent_tasks: int = 0
    max_turn_steps: int = 0


UPDATABLE = tuple(AgentFields.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Agent:
    """A model with a lasting identity."""

    id: str
    fields: AgentFields
    state: AgentState
    version: int
    owner_user_id: str
    create_time: datetime
    update_time: datetime

    @property
    def task_limit(self) -> int:
        """Return how many tasks it works on at a time."""
        return self.fields.max_concurrent_tasks or DEFAULT_TASKS

    @property
    def step_limit(self) -> int:
        """Return how many model calls one turn may take."""
        return self.fields.max_turn_steps or DEFAULT_STEPS
