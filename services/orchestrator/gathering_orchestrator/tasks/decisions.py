"""Take reviews from outside: of EXTERNAL members, and a human's decision on an escalated task."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.errors import ReviewOfOwnWork, WrongState
from gathering_orchestrator.tasks.models import Judgement, Review, Task
from gathering_orchestrator.tasks.models_states import TaskState, Verdict
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.ports import Clock, ReviewStore
from gathering_orchestrator.tasks.verdicts import plain_score


@dataclass(frozen=True, slots=True)
class Decisions:
    """The verb behind SubmitReview."""

    db: Database
    clock: Clock
    reviews: ReviewStore
    moves: Moves

    async def submit(
        self, call: Call, task_id: str, review_id: str, verdict: Verdict, comment: str
    ) -> str:
        """Take a review of an EXTERNAL member, or a human's decision; return the task's id."""
        found = Judgement(verdict, plain_score(verdict), comment)
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                task = await self.moves.lock(tx, task_id)
                if review_id:
                    review = await self._given(tx, task, review_id, found)
                else:
                    review = await self._decision(tx, task, call.user, found)
                await self.moves.judged(tx, task, review, found)
                tx.result = task_id
        return task_id

    async def _given(self, tx: Transaction, task: Task, review_id: str, found: Judgement) -> Review:
        review = await self.reviews.get(tx, task.task_id, review_id)
        if review.reviewer_agent_id and review.reviewer_agent_id == task.assigned_agent_id:
            raise ReviewOfOwnWork("the author of work cannot review it")
        if review.mode is not MemberMode.EXTERNAL:
            raise WrongState("the mesh asks this reviewer itself", task.state)
        return await self.reviews.close(tx, review, found)

    async def _decision(
        self, tx: Transaction, task: Task, user_id: str, found: Judgement
    ) -> Review:
        if task.state is not TaskState.ESCALATED:
            raise WrongState(f"the task is {task.state}; only ESCALATED waits for you", task.state)
        now = await self.clock.now(tx)
        review = Review(
            review_id=new_id("rev"), task_id=task.task_id, reviewer_agent_id="", reviewer_name="",
            reviewer_user_id=user_id, mode=None, round=task.round, judgement=found,
            create_time=now, end_time=now,
        )  # fmt: skip
        return await self.reviews.insert(tx, review, task.assigned_agent_id)
