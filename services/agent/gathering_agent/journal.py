"""What a worker writes of a turn, under the fence of its lease: steps, results, the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gathering_agent.events import TurnCompleted, TurnFailed, TurnStepCompleted
from gathering_agent.models import Message, Role, StopReason, Turn, TurnState, Usage
from gathering_agent.models_dialogue import Attempt
from gathering_agent.ports import Rows
from gathering_agent.speaking import Spoken
from gathering_agent.tool_round import Round
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


class Journal:
    """Writes turns on. Each write raises LeaseLost when another holds the turn, or nobody does."""

    def __init__(self, db: Database, rows: Rows) -> None:
        self._db = db
        self.rows = rows

    async def used(self, tenant: str, turn_id: str, attempt: Attempt) -> None:
        """Record what an attempt used that came to nothing; it needs no lease to be true."""
        async with asyncio.timeout(_LONGEST_RECORD), self._db.transaction(tenant) as tx:
            await self.rows.attempts.add(tx, turn_id, attempt)

    async def step(
        self, pen: Pen, turn: Turn, step: int, said: Spoken, end: StopReason | None
    ) -> tuple[Turn, Message]:
        """Store what the model said in a step; `end`: with it the turn is completed."""
        answer = said.answer
        used = Usage(1, 0, answer.input_tokens, answer.output_tokens)
        turn = replace(turn, usage=turn.usage + used)
        event = TurnStepCompleted(
            turn.id, turn.agent_id, step, turn.model, answer.input_tokens, answer.output_tokens,
            tuple(call.tool for call in answer.tool_calls), turn.task_id,
        )  # fmt: skip
        async with pen.lease.transaction(pen.call) as tx:
            message = await self.rows.messages.append(tx, _said(turn, step, said))
            await self.rows.attempts.add(tx, turn.id, answered(turn, step, said))
            tx.emit(turn.id, event, audience=turn.audience)
            turn = await self._write(tx, pen, turn, end, said.text)
        return turn, message

    async def results(
        self, pen: Pen, turn: Turn, asking: Message, done: Round, end: StopReason | None
    ) -> tuple[Turn, Message]:
        """Store the results of a step's tool calls; `end`: with them the turn is completed."""
        turn = replace(
            turn, usage=turn.usage + Usage(tool_calls=done.ran), result=done.result or turn.result
        )
        message = replace(_message(turn, asking.step, Role.TOOL), tool_results=done.results)
        async with pen.lease.transaction(pen.call) as tx:
            message = await self.rows.messages.append(tx, message)
            turn = await self._write(tx, pen, turn, end, asking.text)
        return turn, message

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
        await self.rows.turns.update(tx, turn)
        usage = turn.usage
        event = TurnCompleted(
            turn.id, turn.session_id, turn.agent_id, turn.task_id, usage.model_calls,
            usage.input_tokens, usage.output_tokens, end.value,
        )  # fmt: skip
        tx.emit(turn.id, event, audience=turn.audience)
        await pen.lease.done(tx)
        return turn

    async def fail(self, pen: Pen, error: DomainError) -> None:
        """End a turn with a reason; one that has ended stays as it is."""
        async with pen.lease.transaction(pen.call) as tx:
            turn = await self.rows.turns.get(tx, pen.lease.id, lock=True)
            if not turn.ended:
                turn = replace(
                    turn,
                    state=TurnState.FAILED,
                    error_reason=error.reason,
                    error_message=error.message,
                    end_time=datetime.now(UTC),
                )
                await self.rows.turns.update(tx, turn)
                event = TurnFailed(
                    turn.id, turn.session_id, turn.agent_id, turn.task_id, error.reason
                )
                tx.emit(turn.id, event, audience=turn.audience)
            await pen.lease.done(tx)


def answered(turn: Turn, step: int, said: Spoken, error_reason: str = "") -> Attempt:
    """Return what an attempt used that was answered."""
    answer = said.answer
    used = (answer.input_tokens, answer.output_tokens)
    return Attempt(step, said.generation, turn.model, *used, error_reason)


def _said(turn: Turn, step: int, said: Spoken) -> Message:
    return replace(
        _message(turn, step, Role.ASSISTANT),
        text=said.text,
        tool_calls=said.answer.tool_calls,
        native=said.answer.native,
        generation=said.generation,
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
