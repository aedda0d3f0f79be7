"""The one function that moves an execution from state to state, and tells of it."""

from __future__ import annotations

from gathering_mesh.postgres import Transaction
from gathering_skills.events import (
    ApprovalClosed,
    ApprovalRequested,
    ExecutionFinished,
    ExecutionRequested,
    ExecutionStarted,
)
from gathering_skills.models import TRANSITIONS, Decision, Ending, Execution, ExecutionState
from gathering_skills.ports import ExecutionRows


class IllegalTransition(Exception):
    """A fault of ours: the table of transitions does not know this step."""


async def move(
    rows: ExecutionRows,
    tx: Transaction,
    execution: Execution,
    to: ExecutionState,
    *,
    ending: Ending | None = None,
    decision: Decision | None = None,
) -> Execution | None:
    """Move an execution from the state that it has here; None if it has left that meanwhile.

    Compare and set, in the database's time; the event is written with it.
    """
    if to not in TRANSITIONS[execution.state]:
        raise IllegalTransition(f"{execution.id}: {execution.state} to {to}")
    moved = await rows.write(tx, execution, to, ending, decision)
    if moved is None:
        return None
    order = moved.order
    audience = [moved.owner_user_id]
    if execution.state is ExecutionState.AWAITING_APPROVAL:
        tx.emit(moved.id, _closed(moved), audience)
    if to is ExecutionState.RUNNING:
        started = ExecutionStarted(
            moved.id, order.tool, order.agent_id, order.turn_id, moved.attempt_count
        )
        tx.emit(moved.id, started, audience)
    elif to.ended:
        tx.emit(moved.id, _finished(moved), audience)
    return moved


async def end(
    rows: ExecutionRows,
    tx: Transaction,
    execution: Execution,
    ending: Ending,
    decision: Decision | None = None,
) -> Execution | None:
    """Move an execution to its end."""
    return await move(rows, tx, execution, ending.state, ending=ending, decision=decision)


def tell_requested(tx: Transaction, execution: Execution) -> None:
    """Tell of an execution that was inserted with this transaction."""
    order = execution.order
    requested = ExecutionRequested(
        execution_id=execution.id,
        tool=order.tool,
        agent_id=order.agent_id,
        turn_id=order.turn_id,
        task_id=order.task_id,
        workspace_id=order.workspace_id,
    )
    tx.emit(execution.id, requested, [execution.owner_user_id])
    if execution.approval is not None:
        asked = ApprovalRequested(
            execution_id=execution.id,
            tool=order.tool,
            agent_id=order.agent_id,
            turn_id=order.turn_id,
            task_id=order.task_id,
            digest=execution.approval.digest,
        )
        tx.emit(execution.id, asked, [execution.owner_user_id])


def _closed(execution: Execution) -> ApprovalClosed:
    order, asked = execution.order, execution.approval
    approved = execution.state is ExecutionState.REQUESTED
    return ApprovalClosed(
        execution_id=execution.id,
        tool=order.tool,
        agent_id=order.agent_id,
        turn_id=order.turn_id,
        task_id=order.task_id,
        outcome="approved" if approved else execution.state.value,
        user_id=asked.user_id if asked else "",
    )


def _finished(execution: Execution) -> ExecutionFinished:
    order = execution.order
    duration = 0.0
    if execution.started_at and execution.ended_at:
        duration = (execution.ended_at - execution.started_at).total_seconds()
    return ExecutionFinished(
        execution_id=execution.id,
        tool=order.tool,
        agent_id=order.agent_id,
        turn_id=order.turn_id,
        task_id=order.task_id,
        state=execution.state.value,
        duration_ms=round(duration * 1000),
        reason=execution.error_reason,
        artifact_hashes=tuple(artifact.sha256 for artifact in execution.artifacts),
    )
