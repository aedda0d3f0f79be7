"""The rows of reviews and artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Row

from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.errors import ReviewNotFound, WrongState
from gathering_orchestrator.store_tables import artifacts, reviews, tasks
from gathering_orchestrator.tasks.models import Artifact, CriterionResult, Judgement, Review
from gathering_orchestrator.tasks.models_states import Verdict


class PostgresReviews:
    """See `ports.ReviewStore`."""

    async def insert(self, tx: Transaction, review: Review, author_agent_id: str) -> Review:
        """Write a review: asked for, or given already (with a judgement)."""
        circle = (
            select(tasks.c.circle_id)
            .where(tasks.c.tenant_id == tx.tenant, tasks.c.id == review.task_id)
            .scalar_subquery()
        )
        statement = insert(reviews).values(
            tenant_id=tx.tenant, id=review.review_id, task_id=review.task_id, circle_id=circle,
            author_agent_id=author_agent_id, reviewer_agent_id=review.reviewer_agent_id,
            reviewer_name=review.reviewer_name, reviewer_user_id=review.reviewer_user_id,
            mode=None if review.mode is None else review.mode.value, round=review.round,
            create_time=review.create_time, end_time=review.end_time, **_found(review.judgement),
        )  # fmt: skip
        return review_of((await tx.execute(statement.returning(*reviews.c))).one())

    async def get(self, tx: Transaction, task_id: str, review_id: str) -> Review:
        """Return a review of a task; ReviewNotFound."""
        query = select(reviews).where(_is(tx, review_id), reviews.c.task_id == task_id)
        row = (await tx.execute(query)).one_or_none()
        if row is None:
            raise ReviewNotFound(review_id)
        return review_of(row)

    async def of_task(self, tx: Transaction, task_id: str) -> list[Review]:
        """Return the reviews of a task, oldest first, those that came to nothing included."""
        query = select(reviews).where(
            reviews.c.tenant_id == tx.tenant, reviews.c.task_id == task_id
        )
        return [review_of(row) for row in await tx.execute(query.order_by(reviews.c.id))]

    async def close(self, tx: Transaction, review: Review, judgement: Judgement | None) -> Review:
        """End an open review, with a judgement or without; WrongState if it has ended."""
        statement = (
            update(reviews)
            .where(_is(tx, review.review_id), reviews.c.end_time.is_(None))
            .values(end_time=func.now(), **_found(judgement))
            .returning(*reviews.c)
        )
        row = (await tx.execute(statement)).one_or_none()
        if row is None:
            raise WrongState(f"the review {review.review_id} has ended", "ENDED")
        return review_of(row)


class PostgresArtifacts:
    """See `ports.ArtifactStore`."""

    async def put(
        self, tx: Transaction, task_id: str, round: int, made: Sequence[Artifact]
    ) -> None:
        """Write the artifacts of a round."""
        rows = [
            {"tenant_id": tx.tenant, "task_id": task_id, "round": round, **asdict(one)}
            for one in made
        ]
        if rows:
            await tx.execute(insert(artifacts).values(rows))

    async def of_round(self, tx: Transaction, task_id: str, round: int) -> tuple[Artifact, ...]:
        """Return the artifacts of a round by path."""
        query = (
            select(artifacts)
            .where(artifacts.c.tenant_id == tx.tenant, artifacts.c.task_id == task_id)
            .where(artifacts.c.round == round)
            .order_by(artifacts.c.path)
        )
        return tuple(artifact_of(row) for row in await tx.execute(query))


def _is(tx: Transaction, review_id: str) -> ColumnElement[bool]:
    return and_(reviews.c.tenant_id == tx.tenant, reviews.c.id == review_id)


def _found(judgement: Judgement | None) -> dict[str, Any]:
    if judgement is None:
        return {"verdict": None, "score": None, "comment": "", "criteria": []}
    return {
        "verdict": judgement.verdict.value,
        "score": judgement.score,
        "comment": judgement.comment,
        "criteria": [asdict(one) for one in judgement.criteria],
    }


def review_of(row: Row[Any]) -> Review:
    """Return the review in a row."""
    judgement = None
    if row.verdict is not None:
        criteria = tuple(CriterionResult(**one) for one in row.criteria)
        judgement = Judgement(Verdict(row.verdict), row.score, row.comment, criteria)
    return Review(
        review_id=row.id, task_id=row.task_id, reviewer_agent_id=row.reviewer_agent_id,
        reviewer_name=row.reviewer_name, reviewer_user_id=row.reviewer_user_id,
        mode=MemberMode(row.mode) if row.mode else None, round=row.round, judgement=judgement,
        create_time=row.create_time, end_time=row.end_time,
    )  # fmt: skip


def artifact_of(row: Row[Any]) -> Artifact:
    """Return the artifact in a row."""
    return Artifact(row.path, row.sha256, row.size_bytes)
