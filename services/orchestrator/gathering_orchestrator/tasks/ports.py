"""What the verbs of tasks need of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.tasks.models import (
    Artifact,
    Judgement,
    Offer,
    Review,
    Task,
    TaskView,
    Turn,
)
from gathering_orchestrator.tasks.models_ranking import Ranked
from gathering_orchestrator.tasks.models_states import OfferState, TaskState, TurnOutcome


class TaskStore(Protocol):
    """Rows of tasks."""

    async def insert(self, tx: Transaction, task: Task) -> None:
        """Write a new task."""

    async def get(self, tx: Transaction, task_id: str) -> Task:
        """Return a task; TaskNotFound."""

    async def lock(self, tx: Transaction, task_id: str) -> Task:
        """Return a task that nobody else changes until the end of the transaction."""

    async def save(self, tx: Transaction, before: Task, after: Task) -> Task:
        """Write a task back: its state by a legal transition, guarded by state and version.

        Raises IllegalTransition, TaskChanged. A change of anything counts as a new version.
        """


class TaskQueries(Protocol):
    """Reads over tasks."""

    async def view(self, tx: Transaction, task_id: str) -> TaskView:
        """Return a task with all that belongs to it; TaskNotFound."""

    async def version(self, tx: Transaction, task_id: str) -> int:
        """Return the version of a task; TaskNotFound."""

    async def page(
        self, tx: Transaction, *, before: str, limit: int, circle_id: str, state: TaskState | None
    ) -> list[Task]:
        """Return tasks, newest first, that are older than the id (empty: all)."""

    async def waiting_for(self, tx: Transaction, agent_id: str, limit: int) -> list[str]:
        """Return tasks that look for a candidate in circles of an agent, most urgent first."""

    async def waiting_in(self, tx: Transaction, circle_id: str) -> list[str]:
        """Return tasks that look for a candidate in a circle."""


class OfferStore(Protocol):
    """Rows of offers."""

    async def insert(
        self, tx: Transaction, task: Task, candidate: Ranked, timeout: timedelta
    ) -> Offer:
        """Write an open offer that expires after the timeout."""

    async def get(self, tx: Transaction, task_id: str, offer_id: str) -> Offer:
        """Return an offer of a task; OfferNotFound."""

    async def of_task(self, tx: Transaction, task_id: str) -> list[Offer]:
        """Return the offers of a task, oldest first."""

    async def close(
        self, tx: Transaction, offer: Offer, state: OfferState, reason: str = "", message: str = ""
    ) -> Offer:
        """Answer an open offer; OfferClosed if it is not open, or expired before an acceptance."""

    async def first_open(self, tx: Transaction, agent_id: str, after: str = "") -> Offer | None:
        """Return the oldest open offer to a MANAGED agent that the id precedes (empty: of all)."""

    async def open_for(self, tx: Transaction, circle_id: str, agent_id: str) -> Sequence[Offer]:
        """Return the open offers to an agent in a circle."""


class ReviewStore(Protocol):
    """Rows of reviews."""

    async def insert(self, tx: Transaction, review: Review, author_agent_id: str) -> Review:
        """Write a review: asked for, or given already (with a judgement)."""

    async def get(self, tx: Transaction, task_id: str, review_id: str) -> Review:
        """Return a review of a task; ReviewNotFound."""

    async def of_task(self, tx: Transaction, task_id: str) -> list[Review]:
        """Return the reviews of a task, oldest first, those that came to nothing included."""

    async def close(self, tx: Transaction, review: Review, judgement: Judgement | None) -> Review:
        """End an open review, with a judgement or without; WrongState if it has ended."""


class ArtifactStore(Protocol):
    """Rows of artifacts."""

    async def put(
        self, tx: Transaction, task_id: str, round: int, artifacts: Sequence[Artifact]
    ) -> None:
        """Write the artifacts of a round."""

    async def of_round(self, tx: Transaction, task_id: str, round: int) -> tuple[Artifact, ...]:
        """Return the artifacts of a round by path."""


class TurnStore(Protocol):
    """Rows of turns that were asked for."""

    async def insert(self, tx: Transaction, turn: Turn) -> None:
        """Write a turn before it is asked for."""

    async def get(self, tx: Transaction, key: str) -> Turn | None:
        """Return the turn of this key, None if it was not prepared."""

    async def acknowledge(self, tx: Transaction, key: str, turn_id: str) -> None:
        """Keep the id that the agent service gave a turn."""

    async def expected(self, tx: Transaction, session_id: str) -> bool:
        """Tell whether a turn was asked for in this session of which no end is known."""

    async def end(
        self, tx: Transaction, session_id: str, turn_id: str, outcome: TurnOutcome, reason: str
    ) -> bool:
        """Keep how a turn ended, also one whose id is not known yet; False: not one of ours."""

    async def going_on(self, tx: Transaction, task_id: str) -> list[Turn]:
        """Return the turns of a task of which no end is known."""


class Clock(Protocol):
    """The database's clock, which all replicas share."""

    async def now(self, tx: Transaction) -> datetime:
        """Return the time at the beginning of the transaction."""


class Signals(Protocol):
    """Wakes those who watch a task."""

    def watching(self, task_id: str) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Yield at once, whenever the task may have changed, and now and then besides."""
