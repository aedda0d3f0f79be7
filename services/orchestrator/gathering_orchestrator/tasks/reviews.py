"""Have work looked at by a peer, and follow what it, or a human, decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from gathering_mesh import faults
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.work import Lease
from gathering_orchestrator.circles.models import Member, MemberMode
from gathering_orchestrator.circles.ports import MemberStore
from gathering_orchestrator.events import ReviewRequested
from gathering_orchestrator.ports import Permits, Workspaces
from gathering_orchestrator.tasks import prompts
from gathering_orchestrator.tasks.models import Artifact, Judgement, Review, Task, Turn
from gathering_orchestrator.tasks.models_reviewers import choose_reviewer, last_given
from gathering_orchestrator.tasks.models_states import (
    Escalation,
    TurnOutcome,
)
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.ports import (
    ArtifactStore,
    Clock,
    ReviewStore,
    TaskStore,
    TurnStore,
)
from gathering_orchestrator.tasks.turns import TurnRefused, Turns
from gathering_orchestrator.tasks.verdicts import (
    UnusableResult,
    changed_files_note,
    judgement,
)

_ATTEMPTS = 2  # a result that cannot be used is asked for once more, with the reason


@dataclass(frozen=True, slots=True)
class _Step:
    """What one step of a review by a MANAGED member is about."""

    lease: Lease
    call: Call
    seen: Task
    review: Review


@dataclass(frozen=True, slots=True)
class Reviews:
    """The steps of a task in review. `patience` is how long an EXTERNAL reviewer may take."""

    db: Database
    clock: Clock
    tasks: TaskStore
    reviews: ReviewStore
    artifacts: ArtifactStore
    members: MemberStore
    turn_rows: TurnStore
    turns: Turns
    moves: Moves
    workspaces: Workspaces
    permits: Permits
    patience: timedelta

    async def step(self, lease: Lease, seen: Task) -> None:
        """Choose a reviewer, ask it, look after its turn, or follow its verdict."""
        async with self.db.transaction(lease.tenant) as tx:
            review = _open(await self.reviews.of_task(tx, seen.task_id))
        if review is None:
            return await self._choose(lease, seen)
        if review.mode is MemberMode.EXTERNAL:
            return await self._await_external(lease, seen, review)
        call = await self.permits.call(lease.tenant, seen.delegation_id, seen.trace)
        try:
            return await self._advance(_Step(lease, call, seen, review))
        except TurnRefused as refusal:  # it cannot be asked; another can
            await self.turns.forget(lease.tenant, seen.task_id, str(refusal))
            return await self._drop(lease, seen, review)

    async def _choose(self, lease: Lease, seen: Task) -> None:
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            reviews = await self.reviews.of_task(tx, task.task_id)
            members = await self.members.list(tx, task.fields.circle_id)
            reviewer = choose_reviewer(task, members, reviews)
            if reviewer is None:
                message = "no other active member may review"
                await self.moves.escalated(tx, task, Escalation.NO_REVIEWER, message)
                await lease.done(tx)
                return
            await self._request(tx, task, reviewer)
            await lease.again(tx, None)

    async def _request(self, tx: Transaction, task: Task, reviewer: Member) -> None:
        review = Review(
            review_id=new_id("rev"), task_id=task.task_id,
            reviewer_agent_id=reviewer.agent.agent_id, reviewer_name=reviewer.agent.name,
            reviewer_user_id="", mode=reviewer.mode, round=task.round, judgement=None,
            create_time=await self.clock.now(tx), end_time=None,
        )  # fmt: skip
        await self.reviews.insert(tx, review, task.assigned_agent_id)
        await self.tasks.save(tx, task, task)
        tx.emit(
            task.task_id,
            ReviewRequested(
                review.review_id, task.task_id, task.fields.circle_id,
                review.reviewer_agent_id, review.reviewer_name, review.round,
            ),
        )  # fmt: skip

    async def _await_external(self, lease: Lease, seen: Task, review: Review) -> None:
        until = review.create_time + self.patience
        async with lease.transaction() as tx:
            await self.moves.unchanged(tx, seen)
            late = await self.clock.now(tx) >= until
            if not late:
                await lease.again(tx, until)
        if late:
            await self._drop(lease, seen, review)

    async def _drop(self, lease: Lease, seen: Task, review: Review) -> None:
        """End a review to which no judgement came; the next reviewer is chosen."""
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            await self.reviews.close(tx, review, None)
            await self.tasks.save(tx, task, task)
            await lease.again(tx, None)

    async def _advance(self, step: _Step) -> None:
        async with self.db.transaction(step.lease.tenant) as tx:
            asked = [
                turn
                for attempt in range(1, _ATTEMPTS + 1)
                if (turn := await self.turn_rows.get(tx, _key(step.review, attempt)))
            ]
        if not asked:
            return await self._prepare(step)
        if not asked[-1].acknowledged:
            return await self._start(step, asked[-1])
        outcome = await self.turns.outcome(step.call, step.lease.tenant, asked[-1])
        if outcome is None:
            return await self._check_later(step)
        return await self._hear(step, asked, outcome)

    async def _prepare(self, step: _Step) -> None:
        review = step.review
        session_id = await self.turns.open_session(
            step.call, step.seen, review.review_id, review.reviewer_agent_id, "Review"
        )
        await self._ask(step, session_id, 1)

    async def _ask(self, step: _Step, session_id: str, attempt: int, complaint: str = "") -> None:
        async with step.lease.transaction() as tx:
            task = await self.moves.unchanged(tx, step.seen)
            made = await self.artifacts.of_round(tx, task.task_id, task.round)
            earlier = last_given(await self.reviews.of_task(tx, task.task_id))
            await self.turns.prepare(
                tx,
                task,
                key=_key(step.review, attempt),
                agent_id=step.review.reviewer_agent_id,
                session_id=session_id,
                prompt=prompts.review(task, made, earlier, complaint),
                review_id=step.review.review_id,
            )
            await step.lease.again(tx, None)

    async def _start(self, step: _Step, turn: Turn) -> None:
        turn = await self.turns.start(step.call, step.seen, turn, prompts.REVIEW_SCHEMA)
        async with step.lease.transaction() as tx:
            await self.turn_rows.acknowledge(tx, turn.key, turn.turn_id)
            await step.lease.again(tx, None)

    async def _check_later(self, step: _Step) -> None:
        async with step.lease.transaction() as tx:
            await self.moves.unchanged(tx, step.seen)
            await step.lease.again(tx, await self.clock.now(tx) + self.turns.check_every)

    async def _hear(self, step: _Step, asked: Sequence[Turn], outcome: TurnOutcome) -> None:
        try:
            found = await self._judgement(step, asked[-1], outcome)
        except UnusableResult as reason:
            if len(asked) < _ATTEMPTS:
                await self._ask(step, asked[-1].session_id, len(asked) + 1, str(reason))
            else:
                await self._give_up(step, str(reason))
            return
        found = await self._noted(step, found)
        await faults.point("task.reviewed")
        async with step.lease.transaction() as tx:
            task = await self.moves.unchanged(tx, step.seen)
            await self.reviews.close(tx, step.review, found)
            await self.moves.judged(tx, task, step.review, found)
            await step.lease.again(tx, None)

    async def _judgement(self, step: _Step, turn: Turn, outcome: TurnOutcome) -> Judgement:
        end = await self.turns.result(step.call, turn)
        if outcome is not TurnOutcome.COMPLETED:
            why = end.failure or turn.reason
            raise UnusableResult(f"the turn was {outcome.lower()}{f' ({why})' if why else ''}")
        return judgement(end.result, step.seen.fields.acceptance_criteria)

    async def _noted(self, step: _Step, found: Judgement) -> Judgement:
        """Add to the comment which artifacts are no longer what was handed in."""
        workspace_id = step.seen.fields.workspace_id
        if not workspace_id:
            return found
        async with self.db.transaction(step.lease.tenant) as tx:
            made = await self.artifacts.of_round(tx, step.seen.task_id, step.seen.round)
        changed: list[tuple[Artifact, str | None]] = []
        for artifact in made:
            now = await self.workspaces.sha256(step.call, workspace_id, artifact.path)
            if now != artifact.sha256:
                changed.append((artifact, now))
        note = changed_files_note(changed)
        return replace(found, comment="\n\n".join(filter(None, (found.comment, note))))

    async def _give_up(self, step: _Step, reason: str) -> None:
        async with step.lease.transaction() as tx:
            task = await self.moves.unchanged(tx, step.seen)
            await self.reviews.close(tx, step.review, None)
            message = f"the review of {step.review.reviewer_name} cannot be used: {reason}"
            await self.moves.escalated(tx, task, Escalation.NO_REVIEWER, message)
            await step.lease.done(tx)


def _key(review: Review, attempt: int) -> str:
    return f"{review.review_id}:{attempt}"


def _open(reviews: Sequence[Review]) -> Review | None:
    return next((review for review in reviews if review.end_time is None), None)
