"""Turns: start, read, list, cancel, wait. What a turn does is in `running`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from gathering_agent.agents.models import Agent, AgentState
from gathering_agent.budgets.models import NO_CAPS, Budget, BudgetTerms, Caps, Level, Subject
from gathering_agent.context.models import Strategy, TurnContext
from gathering_agent.errors import (
    AgentArchived,
    BadImage,
    BudgetExhausted,
    NoContext,
    SessionBusy,
    SessionNotFound,
    TaskNotYours,
    TurnNotFound,
)
from gathering_agent.events import TurnCancelled, TurnStarted
from gathering_agent.models import JsonObject, Limits, Message, Role, Session, Turn, TurnState
from gathering_agent.ports import Rows, TurnFilter
from gathering_agent.providers.catalogue import Catalogue
from gathering_agent.sessions.images import pictures
from gathering_agent.sessions.models_images import Image
from gathering_agent.sessions.sessions import Sessions, may_see
from gathering_agent.streams.live import Live
from gathering_agent.turns.beginning import Begin, Held
from gathering_agent.turns.inquiry import Opened
from gathering_agent.turns.result_schema import check_schema
from gathering_agent.turns.stopping import STOP_TOOLS
from gathering_agent.turns.waiting import RUN
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.postgres_errors import DatabaseUnavailable

TASKS = "orchestrator"  # the service that tasks belong to


@dataclass(frozen=True, slots=True)
class Asked:
    """What a turn is asked for.

    `waits`: behind another turn of the session that has not ended. `timeout`: from now on.
    """

    session_id: str
    text: str
    task_id: str = ""
    limits: Limits = field(default=Limits())
    caps: Caps = NO_CAPS
    result_schema: JsonObject | None = None
    waits: bool = False
    timeout: timedelta | None = None
    images: tuple[bytes, ...] = ()
    resume_strategy: Strategy | None = None  # None: the session's


class Turns:
    """The verbs on turns."""

    def __init__(
        self,
        db: Database,
        rows: Rows,
        sessions: Sessions,
        live: Live,
        begin: Begin,
        *,
        catalogue: Catalogue,
    ) -> None:
        self._db = db
        self._rows = rows
        self._sessions = sessions
        self._live = live
        self._begin = begin
        self._queue = begin.queue
        self._catalogue = catalogue

    async def start(self, call: Call, asked: Asked) -> Turn:
        """Store the message and the turn, and begin its work, on this replica if it has room.

        Raises SessionNotFound, NotTheOwner, TaskNotYours, AgentArchived, SessionBusy,
        SessionQueueFull, BadResultSchema, BadImage, BudgetExhausted.
        """
        check_schema(asked.result_schema)
        images = pictures(asked.images)
        if asked.task_id and call.principal.actor != TASKS:
            raise TaskNotYours("only the orchestrator starts turns for tasks")
        delegation_id = await self._sessions.right(call, asked.session_id)
        try:
            return await self._start(call, asked, images, delegation_id)
        except SessionBusy:
            raise await self._busy(call, asked.session_id) from None

    async def _start(
        self, call: Call, asked: Asked, images: tuple[Image, ...], delegation_id: str
    ) -> Turn:
        held = Held()
        try:
            turn = await self._store(call, asked, images, delegation_id, held)
        except (asyncio.CancelledError, DatabaseUnavailable):
            self._begin.start(held)  # it may be stored; if it is not, the lease is lost at once
            raise
        except BaseException:
            held.drop()
            raise
        self._begin.start(held)
        return turn

    async def _store(
        self, call: Call, asked: Asked, images: tuple[Image, ...], delegation_id: str, held: Held
    ) -> Turn:
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.turns.get(tx, tx.replay)
            session = await self._sessions.owned(tx, call, asked.session_id, lock=True)
            agent = await self._rows.agents.get(tx, session.agent_id)
            if agent.state is AgentState.ARCHIVED:
                raise AgentArchived(agent.id)
            if images:
                self._refuse_blind(agent)
            turn = _new(call, session, agent, asked, delegation_id)
            request = replace(_request(turn, asked.text), images=images)
            if asked.waits and await self._rows.turns.live(tx, session.id):
                turn = await self._queue.enter(tx, turn, request)
                await self._budgets(tx, turn, asked.caps)
            else:
                opened = Opened(turn, session, agent, [request])
                turn = await self._store_first(tx, opened, asked.caps, held)
            started = TurnStarted(turn.id, session.id, session.agent_id, turn.task_id)
            tx.emit(turn.id, started, audience=turn.audience)
            tx.result = turn.id
        return turn

    def _refuse_blind(self, agent: Agent) -> None:
        """Refuse images where the model that is asked first takes none; BadImage."""
        model, *_ = self._catalogue.chain(agent.fields)
        if not model.image_tokens:
            problem = f"the model {model.name} takes no images"
            raise BadImage(problem, fields={"images": problem})

    async def _store_first(self, tx: Transaction, new: Opened, caps: Caps, held: Held) -> Turn:
        """Store a turn that has no other before it, and hold it where there is room."""
        turn, session, agent, (request,) = new.turn, new.session, new.agent, new.history
        if await self._begin.take(tx, turn.id, held):
            turn = replace(turn, state=TurnState.RUNNING)
        digest, before = await self._begin.before(tx, session, held)
        await self._rows.turns.insert(tx, turn)
        budgets = await self._budgets(tx, turn, caps)
        self._begin.ask(tx, Opened(turn, session, agent, [request]), held)
        request = await self._rows.messages.append(tx, request)
        held.opened = Opened(turn, session, agent, [*before, request], budgets, digest)
        return turn

    async def _budgets(self, tx: Transaction, turn: Turn, caps: Caps) -> tuple[Budget, ...]:
        """Return what binds a new turn, with a budget of its own if one is asked for."""
        if caps != NO_CAPS:
            own = BudgetTerms(Subject(Level.TURN, turn.id), caps, turn.owner_user_id)
            await self._rows.budgets.put(tx, own)
        names = (turn.agent_id, turn.session_id, turn.id, turn.task_id)
        budgets = await self._rows.budgets.chain(tx, names)
        for budget in budgets:
            if (refusal := budget.used_up(datetime.now(UTC))) is not None:
                raise BudgetExhausted(refusal)
        return tuple(budgets)

    async def _busy(self, call: Call, session_id: str) -> SessionBusy:
        """Return the refusal, which names the turn that lives."""
        async with self._db.transaction(call) as tx:
            return SessionBusy(await self._rows.turns.live(tx, session_id))

    async def get(self, call: Call, turn_id: str) -> Turn:
        """Return a turn that the caller may see; TurnNotFound."""
        async with self._db.transaction(call) as tx:
            return await self._visible(tx, call, turn_id)

    async def context(self, call: Call, turn_id: str, step: int) -> TurnContext:
        """Return what went into the prompt of a step (0: the last); TurnNotFound, NoContext."""
        async with self._db.transaction(call) as tx:
            turn = await self._visible(tx, call, turn_id)
            found = await self._rows.digests.report(tx, turn.id, step)
        if found is None:
            raise NoContext(turn_id)
        return found

    async def _visible(self, tx: Transaction, call: Call, turn_id: str) -> Turn:
        turn = await self._rows.turns.get(tx, turn_id)
        if not may_see(call, turn.owner_user_id):
            raise TurnNotFound(turn_id)
        return turn

    async def page(self, call: Call, which: TurnFilter, *, before: str, limit: int) -> list[Turn]:
        """Return the caller's turns, newest first; an administrator sees those of all."""
        owner = "" if may_see(call, "") else call.user
        async with self._db.transaction(call) as tx:
            if which.session_id:
                try:
                    await self._sessions.visible(tx, call, which.session_id)
                except SessionNotFound:
                    return []
            which = replace(which, owner=owner)
            return await self._rows.turns.page(tx, which, before=before, limit=limit)

    async def cancel(self, call: Call, turn_id: str) -> Turn:
        """Cancel a turn that has not ended; TurnNotFound.

        The worker loses its lease, wherever it is; the turn's tools are cancelled by work of
        their own, so that this survives any replica. The next turn of the session begins.
        """
        async with self._db.mutation(call) as tx:
            turn = await self._visible(tx, call, tx.replay or turn_id)
            tx.result = turn.id
            if tx.replay or turn.ended:
                return turn
            await tx.unschedule(RUN, turn.id)  # before the turn's row: the order of the worker
            turn = await self._rows.turns.get(tx, turn.id, lock=True)
            if turn.ended:
                return turn
            ended = replace(turn, state=TurnState.CANCELLED, end_time=datetime.now(UTC))
            await self._queue.close(tx, turn, ended)
            cancelled = TurnCancelled(turn.id, turn.session_id, turn.agent_id, turn.task_id)
            tx.emit(turn.id, cancelled, audience=turn.audience)
            if turn.state is not TurnState.WAITING:
                await tx.schedule(STOP_TOOLS, turn.id)
        self._live.cancel(turn.id)
        return ended

    async def cancel_waiting(self, call: Call, session_id: str) -> None:
        """Cancel the turns of a session that wait, those who came last first."""
        async with self._db.transaction(call) as tx:
            waiting = await self._rows.queue.waiting(tx, session_id)
        for turn_id, _ in reversed(waiting):
            await self.cancel(call, turn_id)


def _new(call: Call, session: Session, agent: Agent, asked: Asked, delegation_id: str) -> Turn:
    now = datetime.now(UTC)
    return Turn(
        id=new_id("trn"),
        session_id=session.id,
        agent_id=session.agent_id,
        owner_user_id=session.owner_user_id,
        task_id=asked.task_id,
        state=TurnState.QUEUED,
        limits=_limits(asked.limits, agent),
        result_schema=asked.result_schema,
        trace=call.trace,
        create_time=now,
        delegation_id=delegation_id,
        agent_version=agent.definition,
        deadline=now + asked.timeout if asked.timeout else None,
        resume_strategy=asked.resume_strategy or session.resume_strategy,
    )


def _limits(asked: Limits, agent: Agent) -> Limits:
    """Return the bounds of a turn; an agent's own bound of tool calls caps them."""
    own = agent.fields.max_turn_tool_calls
    calls = min(asked.max_tool_calls or own, own) if own else asked.max_tool_calls
    return replace(asked, max_tool_calls=calls)


def _request(turn: Turn, text: str) -> Message:
    return Message(
        id=new_id("msg"),
        session_id=turn.session_id,
        turn_id=turn.id,
        step=0,
        sequence=0,
        role=Role.USER,
        text=text,
    )
