"""What answers to offers do, and the answers of EXTERNAL members."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction
from gathering_orchestrator.circles.models import MemberMode
from gathering_orchestrator.circles.ports import AgentStore, MemberStore
from gathering_orchestrator.errors import OfferClosed, WrongState
from gathering_orchestrator.events import OfferAccepted, OfferDeclined, OfferExpired
from gathering_orchestrator.tasks.models import Offer, Task
from gathering_orchestrator.tasks.models_states import OTHER, OfferState, TaskState
from gathering_orchestrator.tasks.moves import WORK, Moves
from gathering_orchestrator.tasks.ports import OfferStore, TaskStore


@dataclass(frozen=True, slots=True)
class Offers:
    """Each answer with its row, event and what becomes of the task, in the caller's transaction."""

    db: Database
    tasks: TaskStore
    offers: OfferStore
    members: MemberStore
    copies: AgentStore
    moves: Moves

    async def accept(self, call: Call, task_id: str, offer_id: str) -> str:
        """Accept an offer for an EXTERNAL member; return the task's id."""
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                task, offer = await self._answerable(tx, task_id, offer_id)
                if offer.state is not OfferState.ACCEPTED:
                    await self.copies.lock(tx, offer.agent_id)
                    after = await self.accepted(tx, task, offer)
                    await self.moves.started(tx, after, after.round + 1, "")
                tx.result = task_id
        return task_id

    async def decline(self, call: Call, task_id: str, offer_id: str, message: str) -> str:
        """Decline an offer for an EXTERNAL member; return the task's id."""
        async with self.db.mutation(call) as tx:
            if tx.replay is None:
                task, offer = await self._answerable(tx, task_id, offer_id)
                if offer.state is not OfferState.DECLINED:
                    await self.declined(tx, task, offer, OTHER, message)
                tx.result = task_id
        return task_id

    async def withdraw(self, tenant: str, circle_id: str, agent_id: str) -> None:
        """Take back the open offers to an agent that was removed from a circle."""
        async with self.db.transaction(tenant) as tx:
            offers = await self.offers.open_for(tx, circle_id, agent_id)
        for offer in offers:
            async with self.db.transaction(tenant) as tx:
                task = await self.moves.lock(tx, offer.task_id)
                if await self.members.get(tx, circle_id, agent_id) is not None:
                    continue  # it joined again
                current = await self.offers.get(tx, offer.task_id, offer.offer_id)
                if current.state is OfferState.OPEN:
                    await self.withdrawn(tx, task, current)

    async def withdrawn(self, tx: Transaction, task: Task, offer: Offer) -> None:
        """Take an open offer back and look for the next candidate."""
        await self._close(tx, offer, OfferState.WITHDRAWN)
        await self.moves.searching(tx, task)

    async def _answerable(self, tx: Transaction, task_id: str, offer_id: str) -> tuple[Task, Offer]:
        task = await self.moves.lock(tx, task_id)
        offer = await self.offers.get(tx, task_id, offer_id)
        if offer.mode is MemberMode.MANAGED:
            raise WrongState(f"the mesh asks the agent of offer {offer_id} itself", offer.state)
        member = await self.members.get(tx, task.fields.circle_id, offer.agent_id)
        if member is None and offer.state is OfferState.OPEN:
            raise OfferClosed(offer_id, OfferState.WITHDRAWN)
        return task, offer

    async def _close(
        self, tx: Transaction, offer: Offer, state: OfferState, reason: str = "", message: str = ""
    ) -> None:
        """Answer an offer, and have the agent asked the next question."""
        await self.offers.close(tx, offer, state, reason, message)
        if offer.mode is MemberMode.MANAGED:
            # Only later ones, so that no two offers wait for each other's work.
            waiting = await self.offers.first_open(tx, offer.agent_id, offer.offer_id)
            if waiting is not None:
                await tx.schedule(WORK, waiting.task_id)

    async def accepted(self, tx: Transaction, task: Task, offer: Offer) -> Task:
        """Give the task to the agent; OfferClosed."""
        await self._close(tx, offer, OfferState.ACCEPTED)
        after = await self.tasks.save(
            tx,
            task,
            replace(
                task,
                state=TaskState.ACCEPTED,
                assigned_agent_id=offer.agent_id,
                assigned_mode=offer.mode,
            ),
        )
        tx.emit(
            task.task_id,
            OfferAccepted(
                task.task_id,
                task.fields.circle_id,
                offer.offer_id,
                offer.agent_id,
                offer.agent_name,
            ),
        )
        return after

    async def declined(
        self, tx: Transaction, task: Task, offer: Offer, reason: str, message: str
    ) -> None:
        """Take a no and look for the next candidate."""
        await self._close(tx, offer, OfferState.DECLINED, reason, message)
        await self.moves.searching(tx, task)
        tx.emit(
            task.task_id,
            OfferDeclined(
                task.task_id,
                task.fields.circle_id,
                offer.offer_id,
                offer.agent_id,
                offer.agent_name,
                reason,
            ),
        )

    async def expired(self, tx: Transaction, task: Task, offer: Offer) -> None:
        """Take silence for a no and look for the next candidate."""
        await self._close(tx, offer, OfferState.EXPIRED)
        await self.moves.searching(tx, task)
        tx.emit(
            task.task_id,
            OfferExpired(task.task_id, task.fields.circle_id, offer.offer_id, offer.agent_id),
        )
