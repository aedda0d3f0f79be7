"""Ask an agent for a turn, once: prepared in a row, asked under the row's key, its end awaited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from gathering_mesh import faults
from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError, NotFound
from gathering_mesh.postgres import Database, Transaction
from gathering_orchestrator.errors import passes
from gathering_orchestrator.ports import AgentTurns
from gathering_orchestrator.tasks.models import Json, Task, Turn, TurnEnd
from gathering_orchestrator.tasks.models_states import TurnOutcome
from gathering_orchestrator.tasks.moves import WORK
from gathering_orchestrator.tasks.ports import TurnStore

_LONGEST_TITLE = 200


class TurnRefused(Exception):
    """The agent service will not run the turn, now or later; the message says why."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What work and reviews have in common. `check_every` bounds how long a lost event matters."""

    db: Database
    store: TurnStore
    agent: AgentTurns
    check_every: timedelta

    async def open_session(self, call: Call, task: Task, key: str, agent_id: str, what: str) -> str:
        """Return a session with an agent for a purpose of a task; TurnRefused."""
        try:
            return await self.agent.open_session(
                call,
                request_id=f"{key}:session",
                agent_id=agent_id,
                title=f"{what}: {task.fields.title}"[:_LONGEST_TITLE],
                workspace_id=task.fields.workspace_id,
            )
        except DomainError as error:
            raise _refusal(error) from error

    async def prepare(
        self, tx: Transaction, task: Task, *, key: str, agent_id: str, session_id: str,
        prompt: str, review_id: str = "",
    ) -> Turn:  # fmt: skip
        """Write down what will be asked, before it is asked."""
        turn = Turn(
            key=key, task_id=task.task_id, review_id=review_id, agent_id=agent_id,
            session_id=session_id, prompt=prompt, turn_id="", acknowledged=False, outcome=None,
            reason="",
        )  # fmt: skip
        await self.store.insert(tx, turn)
        return turn

    async def start(self, call: Call, task: Task, turn: Turn, schema: Json) -> Turn:
        """Ask for a prepared turn, as often as need be, and return it with its id; TurnRefused."""
        if turn.turn_id:  # its end was heard of before our own call was answered
            return turn
        try:
            turn_id = await self.agent.start(
                call,
                request_id=turn.key,
                session_id=turn.session_id,
                task_id=task.task_id,
                text=turn.prompt,
                max_tool_calls=task.fields.max_tool_calls,
                result_schema=schema,
            )
        except DomainError as error:
            raise _refusal(error) from error
        await faults.point("task.turn_started")
        return replace(turn, turn_id=turn_id)

    async def outcome(self, call: Call, tenant: str, turn: Turn) -> TurnOutcome | None:
        """Return how a turn ended: as was heard, else as the agent service says now."""
        if turn.outcome is not None:
            return turn.outcome
        found, _ = await self._read(call, turn)
        if found is not None:
            async with self.db.transaction(tenant) as tx:
                await self.store.end(tx, turn.session_id, turn.turn_id, found, "")
        return found

    async def result(self, call: Call, turn: Turn) -> TurnEnd:
        """Return what came of a turn that is done."""
        _, end = await self._read(call, turn)
        return end

    async def _read(self, call: Call, turn: Turn) -> tuple[TurnOutcome | None, TurnEnd]:
        try:
            return await self.agent.read(call, turn.turn_id)
        except NotFound as error:
            raise TurnRefused(error.message) from error

    async def heard_of(
        self, tx: Transaction, *, task_id: str, session_id: str, turn_id: str,
        outcome: TurnOutcome, reason: str,
    ) -> None:  # fmt: skip
        """React to the end of a turn of the agent service's; most are of others."""
        if not await self.store.expected(tx, session_id):
            return
        await tx.schedule(WORK, task_id)  # before the turn's row, as a worker locks them
        await self.store.end(tx, session_id, turn_id, outcome, reason)

    async def forget(self, tenant: str, task_id: str, why: str) -> None:
        """Expect nothing more of the turns of a task that the agent service refused."""
        async with self.db.transaction(tenant) as tx:
            for turn in await self.store.going_on(tx, task_id):
                await self.store.end(tx, turn.session_id, turn.turn_id, TurnOutcome.FAILED, why)

    async def cancel(self, call: Call, tenant: str, task_id: str) -> None:
        """Cancel what still runs for a task, also a turn whose id was never heard."""
        async with self.db.transaction(tenant) as tx:
            turns = await self.store.going_on(tx, task_id)
        for turn in turns:
            turn_id = turn.turn_id or await self.agent.newest(call, turn.session_id)
            if turn_id:
                await self.agent.cancel(call, turn_id)
            async with self.db.transaction(tenant) as tx:
                await self.store.end(
                    tx, turn.session_id, turn_id, TurnOutcome.CANCELLED, "the task has ended"
                )


def _refusal(error: DomainError) -> Exception:
    return error if passes(error) else TurnRefused(error.message)
