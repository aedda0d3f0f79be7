"""Find an agent for a task: rank, offer, hear the answer, ask the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from gathering_mesh import faults
from gathering_mesh.errors import DomainError, NotFound
from gathering_mesh.postgres import Transaction
from gathering_mesh.work import Lease
from gathering_orchestrator.circles.members import REFRESH
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.circles.ports import AgentStore, MemberStore
from gathering_orchestrator.errors import (
    OfferClosed,
    PermitRevoked,
    TaskChanged,
    passes,
)
from gathering_orchestrator.events import (
    ScorePart,
    TaskOffered,
)
from gathering_orchestrator.ports import Agents, Answer, Permits
from gathering_orchestrator.tasks.models import Offer, Task
from gathering_orchestrator.tasks.models_plan import Ask, GiveUp, plan
from gathering_orchestrator.tasks.models_ranking import Ranked
from gathering_orchestrator.tasks.models_states import (
    ARCHIVED,
    OTHER,
    Escalation,
    OfferState,
    TaskState,
)
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.offers import Offers
from gathering_orchestrator.tasks.ports import Clock, OfferStore, TaskStore

# An agent service that cannot be reached is asked again soon at first, then seldom, until the
# offer expires.
_RETRY_SHARE = 2
_SHORTEST_RETRY = timedelta(milliseconds=500)
_LONGEST_RETRY = timedelta(seconds=10)
_LONGEST_TURN = timedelta(seconds=2)  # to wait for one's turn; usually the one before wakes us


@dataclass(frozen=True, slots=True)
class Routing:
    """The steps of a task that has no agent yet. `patience` bounds the wait for a busy one."""

    clock: Clock
    tasks: TaskStore
    offers: OfferStore
    members: MemberStore
    copies: AgentStore
    moves: Moves
    answers: Offers
    agents: Agents
    permits: Permits
    patience: timedelta

    async def pending(self, lease: Lease, seen: Task) -> None:
        """Offer the task to the best candidate, wait for one, or give up."""
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            now = await self.clock.now(tx)
            offers = await self.offers.of_task(tx, task.task_id)
            step = plan(
                await self.members.list(tx, task.fields.circle_id),
                task.fields.required_competences,
                [offer for offer in offers if offer.search == task.search],
                since=task.search_time,
                now=now,
                patience=self.patience,
            )
            if isinstance(step, Ask):
                await self._offer(tx, task, step.candidate)
                await lease.again(tx, None)
            elif isinstance(step, GiveUp):
                await self.moves.escalated(tx, task, Escalation.NO_CANDIDATE, step.message)
                await lease.done(tx)
            else:
                await lease.again(tx, step.until)

    async def _offer(self, tx: Transaction, task: Task, candidate: Ranked) -> None:
        agent = candidate.member.agent
        if not await self.members.hold(tx, task.fields.circle_id, agent.agent_id):
            raise TaskChanged(task.task_id)  # removed this moment; plan again
        offer = await self.offers.insert(tx, task, candidate, task.fields.offer_timeout)
        await self.tasks.save(tx, task, replace(task, state=TaskState.OFFERED))
        parts = tuple(ScorePart(one.name, one.value, one.weight) for one in offer.score_parts)
        tx.emit(
            task.task_id,
            TaskOffered(
                task.task_id,
                task.fields.circle_id,
                offer.offer_id,
                agent.agent_id,
                agent.name,
                offer.score,
                parts,
            ),
        )

    async def offered(self, lease: Lease, seen: Task) -> None:
        """Hear the answer to the open offer: ask a MANAGED member, wait for an EXTERNAL one."""
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            offer = await self._open_offer(tx, task)
            circle_id = task.fields.circle_id
            if await self.members.get(tx, circle_id, offer.agent_id) is None:
                await self.answers.withdrawn(tx, task, offer)
                await lease.again(tx, None)
                return
            now = await self.clock.now(tx)
            if now >= offer.expire_time:
                await self.answers.expired(tx, task, offer)
                await lease.again(tx, None)
                return
            if offer.mode is MemberMode.EXTERNAL:
                await lease.again(tx, offer.expire_time)
                return
            first = await self.offers.first_open(tx, offer.agent_id)
            if first is not None and first.offer_id != offer.offer_id:
                # One question at a time: each yes changes what the agent says to the next.
                await lease.again(tx, min(now + _LONGEST_TURN, offer.expire_time))
                return
            open_tasks = await self.copies.open_task_ids(tx, offer.agent_id)
        answer = await self._consider(lease, task, offer, open_tasks)
        await faults.point("task.offer_answered")
        async with lease.transaction() as tx:
            task = await self.moves.unchanged(tx, seen)
            await self._answered(tx, task, offer, open_tasks, answer)
            retry = None
            if answer is None:
                asked_for = await self.clock.now(tx) - offer.create_time
                retry = offer.create_time + asked_for + _retry_time(asked_for)
                retry = min(retry, offer.expire_time)
            await lease.again(tx, retry)

    async def _consider(
        self, lease: Lease, task: Task, offer: Offer, open_tasks: list[str]
    ) -> Answer | None:
        """Return what the agent says, None when it cannot be asked now."""
        try:
            call = await self.permits.call(lease.tenant, task.delegation_id, task.trace)
            return await self.agents.consider(
                call,
                agent_id=offer.agent_id,
                task_id=task.task_id,
                title=task.fields.title,
                required_competences=task.fields.required_competences,
                open_task_ids=open_tasks,
            )
        except PermitRevoked:
            raise
        except NotFound as error:
            return Answer(accepted=False, reason=ARCHIVED, message=error.message)
        except DomainError as error:
            if passes(error):
                return None
            return Answer(accepted=False, reason=OTHER, message=error.message)

    async def _answered(
        self, tx: Transaction, task: Task, offer: Offer, told: list[str], answer: Answer | None
    ) -> None:
        if answer is None:
            return
        if not answer.accepted:
            # What it was told counts, not what was so when it was ranked.
            asked = replace(offer, open_tasks=len(told))
            await self.answers.declined(tx, task, asked, answer.reason or OTHER, answer.message)
            if answer.reason == ARCHIVED:  # the circle did not know; it should
                await tx.schedule(REFRESH, f"{offer.agent_id}/{offer.offer_id}")
            return
        await self.copies.lock(tx, offer.agent_id)
        if await self.copies.open_task_ids(tx, offer.agent_id) != told:
            return  # it said yes to something else meanwhile: ask it again
        try:
            await self.answers.accepted(tx, task, offer)
        except OfferClosed:  # open under the lock, so it has expired
            await self.answers.expired(tx, task, offer)

    async def _open_offer(self, tx: Transaction, task: Task) -> Offer:
        for offer in await self.offers.of_task(tx, task.task_id):
            if offer.state is OfferState.OPEN:
                return offer
        raise RuntimeError(f"{task.task_id} is OFFERED without an open offer")


def _retry_time(asked_for: timedelta) -> timedelta:
    return min(max(asked_for / _RETRY_SHARE, _SHORTEST_RETRY), _LONGEST_RETRY)
