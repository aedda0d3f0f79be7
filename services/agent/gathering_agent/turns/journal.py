"""What a worker writes of a turn, under the fence of its lease: steps, results, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from gathering_agent.budgets.models import Budget, Cap, Denied, Granted
from gathering_agent.context.models import Digest
from gathering_agent.errors import BudgetExhausted, Overdue
from gathering_agent.events import BudgetExhausted as BudgetRefused
from gathering_agent.events import TurnCompleted, TurnFailed, TurnStepCompleted
from gathering_agent.models import Message, Role, StopReason, Turn, TurnState, Usage
from gathering_agent.ports import Rows
from gathering_agent.providers.models_calls import Attempt, Begun
from gathering_agent.providers.speaking import Spoken
from gathering_agent.remembering.worth import REMEMBER
from gathering_agent.turns.stopping import STOP_TOOLS
from gathering_agent.turns.tool_round import Round
from gathering_agent.turns.waiting import Queue
from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError
from gathering_mesh.ids import new_id
from gathering_mesh.lease import Lease
from gathering_mesh.postgres import Database, Transaction

_LONGEST_RECORD = 2.0  # seconds; nobody waits longer for a note of what a failed call used


@dataclass(frozen=True, slots=True)
class Pen:
    """The right to write: a lease, and the user on whose behalf (for the events' cause)."""

    lease: Lease
    call: Call | None = None
    remembers: bool = False  # when it is completed, it is looked through for what to remember


class Moved(NamedTuple):
    """What was stored: the turn as it stands, its message, and the budgets that bind it now."""

    turn: Turn
    message: Message
    budgets: tuple[Budget, ...] | None  # None: nobody looked


class Journal:
    """Writes turns on. Each write raises LeaseLost when another holds the turn, or nobody does."""

    def __init__(self, db: Database, rows: Rows, queue: Queue) -> None:
        self._db = db
        self.rows = rows
        self.queue = queue

    async def relieve(self, tenant: str, session_id: str) -> None:
        """Let the next turn of a session begin, where those that wait do so for nothing."""
        async with self._db.transaction(tenant) as tx:
            await self.queue.relieve(tx, session_id)

    async def reserve(
        self, pen: Pen, turn: Turn, begun: Begun, budgets: Sequence[Budget], least: int
    ) -> Granted | Denied:
        """Book the worst case of a call on budgets, and record it before it is made."""
        ids = [one.id for one in budgets]
        async with pen.lease.transaction() as tx:
            return await self.rows.attempts.reserve(tx, turn, begun, ids, least)

    async def used(self, tenant: str, turn: Turn, attempt: Attempt) -> None:
        """Record what an attempt used that came to nothing; it needs no lease to be true."""
        async with asyncio.timeout(_LONGEST_RECORD), self._db.transaction(tenant) as tx:
            await self.rows.turns.hold(tx, turn.id)
            await self.rows.attempts.settle(tx, turn, attempt)

    async def step(self, pen: Pen, turn: Turn, said: Spoken, end: StopReason | None) -> Moved:
        """Store what the model said in a step; `end`: with it the turn is completed."""
        used = said.begun.answered(said.answer)
        turn = replace(turn, usage=turn.usage + usage_of(used))
        event = TurnStepCompleted(
            turn.id, turn.agent_id, used.step, turn.model, used.input_tokens, used.output_tokens,
            tuple(call.tool for call in said.answer.tool_calls), turn.task_id,
        )  # fmt: skip
        async with pen.lease.transaction(pen.call) as tx:
            report = said.begun.request.report
            message = await self.rows.messages.append(tx, _said(turn, used.step, said), report)
            tx.emit(turn.id, event, audience=turn.audience)
            turn = await self._write(tx, pen, turn, end, said.text)
            looks = end is None and not said.answer.tool_calls  # else it is done with the results
            budgets = await self.budgets(tx, turn) if looks else None
            # The last statements: budgets are shared, and locked until the end.
            await self.rows.attempts.settle(tx, turn, used)
            await self._settle_owed(tx, turn, end)
        return Moved(turn, message, budgets)

    async def condensed(self, pen: Pen, turn: Turn, digest: Digest, used: Attempt | None) -> Turn:
        """Keep what was condensed of a turn's session, and what a model used for it, if one was."""
        async with pen.lease.transaction(pen.call) as tx:
            await self.rows.digests.add(tx, turn.session_id, digest)
            if used is not None:
                turn = replace(turn, usage=turn.usage + usage_of(used))
                await self.rows.turns.update(tx, turn)
                await self.rows.attempts.settle(tx, turn, used)
        return turn

    async def _settle_owed(self, tx: Transaction, turn: Turn, end: StopReason | None) -> None:
        """End with the turn what could not be recorded when it failed."""
        if end is not None and turn.usage.failed_calls:
            await self.rows.attempts.settle_lost(tx, turn.id)

    async def budgets(self, tx: Transaction, turn: Turn) -> tuple[Budget, ...]:
        """Return the budgets that bind a turn."""
        names = (turn.agent_id, turn.session_id, turn.id, turn.task_id)
        return tuple(await self.rows.budgets.chain(tx, names))

    async def results(
        self, pen: Pen, turn: Turn, asking: Message, done: Round, end: StopReason | None
    ) -> Moved:
        """Store the results of a step's tool calls; `end`: with them the turn is completed."""
        turn = replace(
            turn, usage=turn.usage + Usage(tool_calls=done.ran), result=done.result or turn.result
        )
        message = replace(_message(turn, asking.step, Role.TOOL), tool_results=done.results)
        async with pen.lease.transaction(pen.call) as tx:
            message = await self.rows.messages.append(tx, message)
            turn = await self._write(tx, pen, turn, end, asking.text)
            budgets = await self.budgets(tx, turn) if end is None else None
            await self._settle_owed(tx, turn, end)
        return Moved(turn, message, budgets)

    async def _write(
        self, tx: Transaction, pen: Pen, turn: Turn, end: StopReason | None, text: str
    ) -> Turn:
        if end is None:
            await self.rows.turns.update(tx, turn)
            return turn
        turn = replace(
            turn,
            state=TurnState.COMPLETED,
            stop_reason=end,
            text=text,
            end_time=datetime.now(UTC),
        )
        await self.queue.end(tx, turn)  # the message before it has locked the session
        usage = turn.usage
        event = TurnCompleted(
            turn.id, turn.session_id, turn.agent_id, turn.task_id, usage.model_calls,
            usage.input_tokens, usage.output_tokens, end.value,
        )  # fmt: skip
        tx.emit(turn.id, event, audience=turn.audience)
        if pen.remembers:
            await tx.schedule(REMEMBER, turn.id)
        await pen.lease.done(tx)
        return turn

    async def fail(self, pen: Pen, error: DomainError) -> None:
        """End a turn with a reason; one that has ended stays as it is."""
        async with pen.lease.transaction(pen.call) as tx:
            turn = await self.rows.turns.get(tx, pen.lease.id, lock=True)
            if not turn.ended:
                failed = replace(
                    turn,
                    state=TurnState.FAILED,
                    error_reason=error.reason,
                    error_message=error.message,
                    refusal=error.refusal if isinstance(error, BudgetExhausted) else None,
                    end_time=datetime.now(UTC),
                )
                await self.queue.close(tx, turn, failed)
                _tell_failure(tx, failed)
            await pen.lease.done(tx)
            if _cuts(error):
                await tx.schedule(STOP_TOOLS, turn.id)
            await self.rows.attempts.settle_lost(tx, turn.id)


def _tell_failure(tx: Transaction, turn: Turn) -> None:
    if (refusal := turn.refusal) is not None:
        refused = BudgetRefused(
            turn.id, turn.agent_id, turn.task_id, refusal.budget_id, refusal.level,
            refusal.subject_id, refusal.cap, refusal.limit, refusal.left,
        )  # fmt: skip
        tx.emit(turn.id, refused, audience=turn.audience)
    event = TurnFailed(turn.id, turn.session_id, turn.agent_id, turn.task_id, turn.error_reason)
    tx.emit(turn.id, event, audience=turn.audience)


def _cuts(error: DomainError) -> bool:
    """Tell whether tools may have been running when a turn failed."""
    if isinstance(error, BudgetExhausted):
        return error.refusal.cap == Cap.WALL_TIME
    return isinstance(error, Overdue)


def usage_of(used: Attempt) -> Usage:
    """Return what an answered attempt adds to its turn."""
    return Usage(
        model_calls=1,
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cached_tokens=used.cached_tokens,
        cost=used.cost,
    )


def _said(turn: Turn, step: int, said: Spoken) -> Message:
    return replace(
        _message(turn, step, Role.ASSISTANT),
        text=said.text,
        tool_calls=said.answer.tool_calls,
        native=said.answer.native,
        generation=said.begun.generation,
    )


def _message(turn: Turn, step: int, role: Role) -> Message:
    return Message(
        id=new_id("msg"),
        session_id=turn.session_id,
        turn_id=turn.id,
        step=step,
        sequence=0,
        role=role,
        text="",
    )
