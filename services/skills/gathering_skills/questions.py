"""Questions to a person, whether a tool may run, and their answers.

A question is a row that awaits: it is answered, cancelled or runs out by one compare-and-set. What
was asked is bound by a digest; a run compares it with what it would do, so an approval of something
else is none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple

from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction
from gathering_skills.boundary import ADMINISTRATOR, Boundary, principal_of
from gathering_skills.endings import denied
from gathering_skills.errors import (
    ApprovalClosed,
    ApprovalNotYours,
    ApprovalStale,
    SkillsNotFound,
)
from gathering_skills.life import end, move
from gathering_skills.models import EXECUTE, Decision, Execution, ExecutionState, Order
from gathering_skills.models_tools import ToolSpec
from gathering_skills.ports import ExecutionRows
from gathering_skills.waiting import Wakeups

_APPROVED = frozenset(
    {
        ExecutionState.REQUESTED,
        ExecutionState.RUNNING,
        ExecutionState.DONE,
        ExecutionState.FAILED,
        ExecutionState.UNKNOWN_OUTCOME,
    }
)


def question_digest(principal: str, order: Order, spec: ToolSpec) -> str:
    """Return what binds a decision: who asks, for what, of which version of the tool."""
    version = (spec.description, spec.arguments_schema, spec.permission, spec.effect)
    text = json.dumps([principal, astuple(order), version], sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


class Approvals:
    """The verbs on questions."""

    def __init__(
        self,
        db: Database,
        rows: ExecutionRows,
        boundary: Boundary,
        wakeups: Wakeups,
    ) -> None:
        self._db = db
        self._rows = rows
        self._boundary = boundary
        self._wakeups = wakeups

    async def approve(self, call: Call, execution_id: str, digest: str, comment: str) -> Execution:
        """Let an execution run.

        Raises NotFound, ApprovalNotYours, ApprovalStale, ApprovalClosed, ToolNotGranted.
        """
        async with self._db.mutation(call) as tx:
            execution = await self._asked(tx, call, execution_id, digest)
            tx.result = execution_id
            if execution.state is not ExecutionState.AWAITING_APPROVAL:
                return _answered(execution, call, approved=True)
            await self._boundary.recheck(tx, execution.order)
            decision = Decision(call.user, digest, comment)
            moved = await move(
                self._rows, tx, execution, ExecutionState.REQUESTED, decision=decision
            )
            if moved is None:
                raise ApprovalClosed(ExecutionState.EXPIRED)
            await tx.schedule(EXECUTE, execution_id)
        self._wakeups.started(execution_id)
        return moved

    async def deny(self, call: Call, execution_id: str, digest: str, comment: str) -> Execution:
        """End an execution that has not run; NotFound, ApprovalNotYours, -Stale, -Closed."""
        async with self._db.mutation(call) as tx:
            execution = await self._asked(tx, call, execution_id, digest)
            tx.result = execution_id
            if execution.state is not ExecutionState.AWAITING_APPROVAL:
                return _answered(execution, call, approved=False)
            decision = Decision(call.user, digest, comment)
            moved = await end(self._rows, tx, execution, denied(comment), decision)
            if moved is None:
                raise ApprovalClosed(ExecutionState.EXPIRED)
            await tx.schedule(EXECUTE, execution_id)  # whose work ends with it
        self._wakeups.wake(execution_id, moved)
        return moved

    async def _asked(
        self, tx: Transaction, call: Call, execution_id: str, digest: str
    ) -> Execution:
        """Return an execution about which the caller may decide, locked."""
        execution = await self._rows.get(tx, execution_id, lock=True)
        if call.principal.role != ADMINISTRATOR and execution.owner_user_id != call.user:
            raise SkillsNotFound("execution", execution_id)
        if call.principal.actor is not None or call.principal.delegation is not None:
            raise ApprovalNotYours("only people decide, not services on their behalf")
        if principal_of(call) == execution.principal:
            raise ApprovalNotYours("nobody decides about what they asked for")
        if execution.approval is None:
            raise ApprovalClosed(execution.state)
        if execution.approval.digest != digest:
            raise ApprovalStale(execution.approval.digest)
        return execution


def _answered(execution: Execution, call: Call, *, approved: bool) -> Execution:
    """Return what the same user decided in the same way before; ApprovalClosed."""
    asked = execution.approval
    same = asked is not None and asked.user_id == call.user
    if same and approved and execution.state in _APPROVED:
        return execution
    if same and not approved and execution.state is ExecutionState.DENIED:
        return execution
    raise ApprovalClosed(execution.state)
