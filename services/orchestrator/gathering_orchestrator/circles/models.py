"""Circles, members and the copy of each agent that circles keep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

UNKNOWN = 0.5  # approval rate and quality of a member that nobody reviewed yet


class MemberMode(StrEnum):
    """Where a member's decisions come from."""

    MANAGED = "MANAGED"  # the mesh asks the agent and runs its turns
    EXTERNAL = "EXTERNAL"  # a client of its own answers by RPC


@dataclass(frozen=True, slots=True)
class Competence:
    """Something that an agent is good at; `strength` from 0 to 1."""

    name: str
    strength: float


@dataclass(frozen=True, slots=True)
class Agent:
    """What circles know of an agent, as the agent service told last."""

    agent_id: str
    name: str
    competences: tuple[Competence, ...]
    archived: bool
    max_concurrent_tasks: int
    update_time: datetime


@dataclass(frozen=True, slots=True)
class CircleFields:
    """What callers say of a circle."""

    name: str
    purpose: str
    workspace_id: str
    requires_review: bool
    max_rounds: int
    offer_timeout: timedelta


@dataclass(frozen=True, slots=True)
class Circle:
    """A team of agents. `members_version` grows with each change of its members."""

    circle_id: str
    fields: CircleFields
    owner_user_id: str
    delegation_id: str
    version: int
    members_version: int
    pushed_version: int  # the newest members_version that the memory service has taken
    create_time: datetime

    @property
    def etag(self) -> str:
        """Return what changes with each update."""
        return f"{self.version:x}"


@dataclass(frozen=True, slots=True)
class MemberFields:
    """What callers say of a member."""

    agent_id: str
    mode: MemberMode
    can_review: bool


@dataclass(frozen=True, slots=True)
class Metrics:
    """How a member has done; counts are those of rows, so that they cannot drift."""

    open_tasks: int = 0
    completed: int = 0
    failed: int = 0
    reviews: int = 0
    approved: int = 0
    score_sum: float = 0.0

    @property
    def approval_rate(self) -> float:
        """Return the share of reviews that approved, 0 to 1."""
        return self.approved / self.reviews if self.reviews else UNKNOWN

    @property
    def quality(self) -> float:
        """Return the mean score of the reviews, 0 to 1."""
        return self.score_sum / self.reviews if self.reviews else UNKNOWN


@dataclass(frozen=True, slots=True)
class Member:
    """An agent in a circle."""

    agent: Agent
    mode: MemberMode
    can_review: bool
    join_time: datetime
    metrics: Metrics
