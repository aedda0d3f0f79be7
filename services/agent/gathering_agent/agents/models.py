"""Agents: who they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

DEFAULT_STRENGTH = 0.8
DEFAULT_TASKS = 1
DEFAULT_STEPS = 25
DEFAULT_RECALLED = 8
DEFAULT_REMEMBERED = 3
DEFAULT_THRESHOLD = 0.6


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
    specialisations: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()


class RememberMode(StrEnum):
    """How an agent finds by itself what is worth remembering of a turn."""

    OFF = "off"
    RULES = "rules"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class MemoryPolicy:
    """What an agent does with memories; None stands for the default."""

    recall_limit: int | None = None
    read_only: bool = False
    remember_mode: RememberMode | None = None
    remember_threshold: float | None = None
    remember_limit: int | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read a policy: what it does not say has its default, what is not known is left."""
        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        mode = known.get("remember_mode")
        return cls(**{**known, "remember_mode": None if mode is None else RememberMode(mode)})

    @property
    def said(self) -> dict[str, Any]:
        """Return what it says; replicas that know less read what says no more than they know."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def mode(self) -> RememberMode:
        """Return how it remembers by itself."""
        if self.read_only or not self.most:
            return RememberMode.OFF
        return self.remember_mode or RememberMode.RULES

    @property
    def least(self) -> float:
        """Return from which importance on it remembers."""
        return DEFAULT_THRESHOLD if self.remember_threshold is None else self.remember_threshold

    @property
    def most(self) -> int:
        """Return how much it remembers of one turn."""
        return DEFAULT_REMEMBERED if self.remember_limit is None else self.remember_limit


@dataclass(frozen=True, slots=True)
class ContextPolicy:
    """How an agent's older history is condensed: by a model of this name, by rules if empty."""

    condensing_model: str = ""


@dataclass(frozen=True, slots=True)
class AgentFields:
    """What a user may say of an agent; 0 and empty stand for the defaults."""

    name: str = ""
    persona: Persona = Persona()
    competences: tuple[Competence, ...] = ()
    model: str = ""
    max_concurrent_tasks: int = 0
    max_turn_steps: int = 0
    max_turn_tool_calls: int = 0
    memory_policy: MemoryPolicy = MemoryPolicy()
    fallback_models: tuple[str, ...] = ()
    context_policy: ContextPolicy = ContextPolicy()


UPDATABLE = tuple(AgentFields.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Agent:
    """A model with a lasting identity.

    `version` counts all changes, `definition` those of its fields: the number of the `AgentVersion`
    that has them. A turn's agent has the fields of the version by which the turn runs.
    """

    id: str
    fields: AgentFields
    state: AgentState
    version: int
    owner_user_id: str
    create_time: datetime
    update_time: datetime
    definition: int = 1
    template: str = ""

    @property
    def task_limit(self) -> int:
        """Return how many tasks it works on at a time."""
        return self.fields.max_concurrent_tasks or DEFAULT_TASKS

    @property
    def step_limit(self) -> int:
        """Return how many model calls one turn may take."""
        return self.fields.max_turn_steps or DEFAULT_STEPS

    @property
    def recall_limit(self) -> int:
        """Return how many memories are recalled for a turn."""
        limit = self.fields.memory_policy.recall_limit
        return DEFAULT_RECALLED if limit is None else limit


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """An agent's definition as it was between two updates; `fields` is None in lists."""

    agent_id: str
    version: int
    user_id: str
    create_time: datetime
    changed_fields: tuple[str, ...] = ()
    fields: AgentFields | None = None


@dataclass(frozen=True, slots=True)
class AgentTemplate:
    """A ready definition to create agents from; `skills` are suggested, not granted."""

    name: str
    summary: str
    fields: AgentFields
    skills: tuple[str, ...] = ()
