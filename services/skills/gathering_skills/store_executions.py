"""The rows of executions."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, case, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import insert

from gathering_mesh.postgres import Transaction
from gathering_skills.errors import SkillsNotFound
from gathering_skills.models import (
    Approval,
    Artifact,
    Decision,
    Ending,
    Execution,
    ExecutionFilter,
    ExecutionState,
    Order,
)
from gathering_skills.store import executions

_LISTED_BYTES = 2048
# A page holds neither outputs nor large arguments.
_LISTED = [
    *(c for c in executions.c if c.name not in {"output", "digest", "arguments"}),
    case(
        (func.octet_length(executions.c.arguments) <= _LISTED_BYTES, executions.c.arguments),
        else_="{}",
    ).label("arguments"),
]
_PURGE = """
delete from executions where tenant_id = $1 and id in (
    select id from executions
    where tenant_id = $1 and end_time < now() - $2::interval order by end_time limit $3)
"""


class ExecutionStore:
    """See `ports.ExecutionRows` and `ports.ExecutionUpkeep`."""

    async def insert(self, tx: Transaction, execution: Execution, digest: bytes) -> bool:
        """Add an execution; False if its principal has one with this request id."""
        order = execution.order
        values = {
            "tenant_id": tx.tenant,
            "id": execution.id,
            "principal": execution.principal,
            "request_id": execution.request_id,
            "digest": digest,
            "owner_user_id": execution.owner_user_id,
            "tool": order.tool,
            "arguments": json.dumps(order.arguments, ensure_ascii=False),
            "agent_id": order.agent_id,
            "workspace_id": order.workspace_id or None,
            "turn_id": order.turn_id,
            "task_id": order.task_id,
            "trace": execution.trace,
            "state": execution.state.value,
            "create_time": execution.created_at,
            **_question(execution.approval),
        }
        statement = (
            insert(executions)
            .values(values)
            .on_conflict_do_nothing(constraint="execution_request")
            .returning(executions.c.id)
        )
        return (await tx.execute(statement)).one_or_none() is not None

    async def by_request(
        self, tx: Transaction, principal: str, request_id: str
    ) -> tuple[Execution, bytes] | None:
        """Return the execution that a caller named so, and the digest of its order."""
        query = select(executions).where(
            executions.c.tenant_id == tx.tenant,
            executions.c.principal == principal,
            executions.c.request_id == request_id,
        )
        row = (await tx.execute(query)).one_or_none()
        return (_execution(row), row.digest) if row else None

    async def get(self, tx: Transaction, execution_id: str, *, lock: bool = False) -> Execution:
        """Return an execution; NotFound."""
        query = select(executions).where(*_key(tx, execution_id))
        row = (await tx.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            raise SkillsNotFound("execution", execution_id)
        return _execution(row)

    async def page(
        self, tx: Transaction, which: ExecutionFilter, *, before: str, limit: int
    ) -> list[Execution]:
        """Return executions without output, newest first."""
        query = select(*_LISTED).where(executions.c.tenant_id == tx.tenant)
        wanted = {
            executions.c.owner_user_id: which.owner,
            executions.c.turn_id: which.turn_id,
            executions.c.task_id: which.task_id,
            executions.c.agent_id: which.agent_id,
            executions.c.workspace_id: which.workspace_id,
            executions.c.state: which.state,
        }
        for column, value in wanted.items():
            if value:
                query = query.where(column == value)
        if before:
            query = query.where(executions.c.id < before)
        rows = await tx.execute(query.order_by(executions.c.id.desc()).limit(limit))
        return [_execution(row) for row in rows]

    async def write(
        self,
        tx: Transaction,
        execution: Execution,
        to: ExecutionState,
        ending: Ending | None = None,
        decision: Decision | None = None,
    ) -> Execution | None:
        """Move an execution from the state that it has here to another; None if it has left it.

        With a decision: in time, and about this question; else None as well.
        """
        values: dict[str, Any] = {"state": to.value}
        still: list[Any] = [executions.c.state == execution.state.value]
        if decision is not None:
            values["approval_user_id"] = decision.user_id
            values["approval_time"] = func.clock_timestamp()
            values["approval_comment"] = decision.comment
            still.append(executions.c.approval_digest == decision.digest)
            still.append(executions.c.approval_expire_time > func.clock_timestamp())
        if to is ExecutionState.RUNNING:
            values["attempt_count"] = executions.c.attempt_count + 1
            values["start_time"] = func.clock_timestamp()
        if to.ended:
            values["end_time"] = func.clock_timestamp()
        if ending is not None:
            output = ending.output
            values["output"] = None if output is None else json.dumps(output, ensure_ascii=False)
            values["error_reason"] = ending.error_reason
            values["error_message"] = ending.error_message
            values["artifacts"] = [asdict(artifact) for artifact in ending.artifacts]
        statement = (
            update(executions)
            .where(*_key(tx, execution.id), *still)
            .values(values)
            .returning(executions)
        )
        row = (await tx.execute(statement)).one_or_none()
        return _execution(row) if row else None

    async def live_count(self, tx: Transaction, limit: int) -> int:
        """Return how many have not ended, counting no further than the limit."""
        live = (
            select(literal_column("1"))
            .where(executions.c.tenant_id == tx.tenant, executions.c.end_time.is_(None))
            .limit(limit)
            .subquery()
        )
        return int((await tx.execute(select(func.count()).select_from(live))).scalar_one())

    async def question(self, tx: Transaction, digest: str, open_for: timedelta) -> Approval:
        """Return a question that is open from now on, in the database's time."""
        until = await tx.fetch_value("select clock_timestamp() + $1::interval", open_for)
        return Approval(digest, until)

    async def is_open(self, tx: Transaction, execution: Execution) -> bool:
        """Tell whether a question can still be answered, in the database's time."""
        asked = execution.approval
        return asked is not None and await tx.fetch_value(
            "select $1::timestamptz > clock_timestamp()", asked.expires_at
        )

    async def lock_count(self, tx: Transaction) -> None:
        """Let no other transaction of the tenant count until this one ends."""
        await tx.execute(
            select(func.pg_advisory_xact_lock(func.hashtextextended(f"live {tx.tenant}", 0)))
        )

    async def ask_to_cancel(self, tx: Transaction, execution_id: str) -> None:
        """Remember that a running execution is to be cancelled."""
        await tx.execute(
            update(executions).where(*_key(tx, execution_id)).values(cancel_requested=True)
        )

    async def is_cancel_requested(self, tx: Transaction, execution_id: str) -> bool:
        """Tell whether somebody asked for it."""
        query = select(executions.c.cancel_requested).where(*_key(tx, execution_id))
        return bool((await tx.execute(query)).scalar_one_or_none())

    async def purge(self, tx: Transaction, days: int, limit: int) -> int:
        """Delete executions that ended so many days ago; return how many."""
        return await tx.run(_PURGE, tx.tenant, timedelta(days=days), limit)


def _key(tx: Transaction, execution_id: str) -> tuple[Any, Any]:
    return executions.c.tenant_id == tx.tenant, executions.c.id == execution_id


def _question(asked: Approval | None) -> dict[str, Any]:
    if asked is None:
        return {}
    return {"approval_digest": asked.digest, "approval_expire_time": asked.expires_at}


def _approval(row: Row[Any]) -> Approval | None:
    if not row.approval_digest:
        return None
    return Approval(
        digest=row.approval_digest,
        expires_at=row.approval_expire_time,
        user_id=row.approval_user_id,
        decided_at=row.approval_time,
        comment=row.approval_comment,
    )


def _execution(row: Row[Any]) -> Execution:
    output = row._mapping.get("output")
    return Execution(
        id=row.id,
        request_id=row.request_id,
        principal=row.principal,
        owner_user_id=row.owner_user_id,
        trace=row.trace,
        order=Order(
            tool=row.tool,
            arguments=json.loads(row.arguments),
            agent_id=row.agent_id,
            workspace_id=row.workspace_id or "",
            turn_id=row.turn_id,
            task_id=row.task_id,
        ),
        state=ExecutionState(row.state),
        created_at=row.create_time,
        output=None if output is None else json.loads(output),
        error_reason=row.error_reason,
        error_message=row.error_message,
        artifacts=tuple(Artifact(**artifact) for artifact in row.artifacts),
        attempt_count=row.attempt_count,
        cancel_requested=row.cancel_requested,
        started_at=row.start_time,
        ended_at=row.end_time,
        approval=_approval(row),
    )
