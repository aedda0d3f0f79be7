"""Executions: ask for one, wait for it, read, list, cancel. See `runs`, `watching`."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime

from gathering_mesh import faults
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint
from gathering_mesh.postgres import Database, Transaction
from gathering_skills.boundary import ADMINISTRATOR, Admitted, Boundary, principal_of
from gathering_skills.endings import cancelled
from gathering_skills.errors import RequestIdReused, SkillsNotFound
from gathering_skills.life import end, tell_requested
from gathering_skills.models import (
    EXECUTE,
    Approval,
    Execution,
    ExecutionFilter,
    ExecutionState,
    Order,
)
from gathering_skills.ports import ExecutionRows, ExecutionUpkeep
from gathering_skills.questions import question_digest
from gathering_skills.waiting import Waiter, WaitingRoom, Wakeups

_NOT_BEGUN = frozenset({ExecutionState.AWAITING_APPROVAL, ExecutionState.REQUESTED})
_POLL_SECONDS = 1.0  # for what happened in another replica, should the log be late
_ANSWER_SECONDS = 0.3  # between our answer and the caller's deadline
_CANCEL_SECONDS = 5.0  # that a cancelled tool is given to stop before its caller is answered


@dataclass(frozen=True, slots=True)
class ExecutionPage:
    """A page of executions; an empty token on the last."""

    executions: list[Execution]
    next_page_token: str


class Executions:
    """The verbs on executions."""

    def __init__(
        self,
        db: Database,
        rows: ExecutionRows,
        upkeep: ExecutionUpkeep,
        boundary: Boundary,
        wakeups: Wakeups,
    ) -> None:
        self._db = db
        self._rows = rows
        self._upkeep = upkeep
        self._boundary = boundary
        self._wakeups = wakeups
        self._room = WaitingRoom()

    async def execute(self, call: Call, request_id: str, order: Order, wait: float) -> Execution:
        """Store an execution and wait at most so many seconds for its end.

        Where too many of the tenant wait already, it is answered at once. The same request id of
        the same caller finds the first one, for as long as it is kept.
        Raises what `Boundary.admit` raises, and RequestIdReused.
        """
        execution_id = new_id("exe")
        with self._wakeups.of(execution_id) as waiter:  # before it can end
            execution = await self._stored(call, execution_id, request_id, order)
            await faults.point("execution.requested")
            if execution.id == execution_id:
                return await self._until_end(call, execution, waiter, wait)
        return await self._awaited(call, execution, wait)

    async def _stored(
        self, call: Call, execution_id: str, request_id: str, order: Order
    ) -> Execution:
        principal = principal_of(call)
        async with self._db.transaction(call) as tx:
            if found := await self._repeated(tx, principal, request_id, order):
                return found
            admitted = await self._boundary.admit(tx, call, order)
            asked = await self._asked(tx, principal, order, admitted)
            execution = Execution(
                id=execution_id,
                request_id=request_id,
                principal=principal,
                owner_user_id=call.user,
                order=order,
                state=ExecutionState.AWAITING_APPROVAL if asked else ExecutionState.REQUESTED,
                created_at=datetime.now(UTC),
                trace=call.trace,
                approval=asked,
            )
            if await self._rows.insert(tx, execution, digest_of(order)):
                tell_requested(tx, execution)
                # Of what awaits approval: the end of the time for it.
                await tx.schedule(EXECUTE, execution.id, asked.expires_at if asked else None)
                return execution
            twin = await self._repeated(tx, principal, request_id, order)
        if twin is None:
            raise RuntimeError("a request id is taken by nobody")
        return twin

    async def _asked(
        self, tx: Transaction, principal: str, order: Order, admitted: Admitted
    ) -> Approval | None:
        if admitted.asks is None:
            return None
        digest = question_digest(principal, order, admitted.tool.spec)
        return await self._rows.question(tx, digest, admitted.asks)

    async def _repeated(
        self, tx: Transaction, principal: str, request_id: str, order: Order
    ) -> Execution | None:
        found = await self._rows.by_request(tx, principal, request_id)
        if found is None:
            return None
        execution, digest = found
        if digest != digest_of(order):
            raise RequestIdReused
        return execution

    async def _awaited(self, call: Call, execution: Execution, wait: float) -> Execution:
        if _settled(execution):
            return execution
        with self._wakeups.of(execution.id) as waiter:
            execution = await self._read(call, execution.id)
            return await self._until_end(call, execution, waiter, wait)

    async def _until_end(
        self, call: Call, execution: Execution, waiter: Waiter, wait: float
    ) -> Execution:
        remaining = call.remaining()
        if remaining is not None:
            wait = min(wait, remaining - _ANSWER_SECONDS)
        until = time.monotonic() + wait
        with self._room.place(call.tenant) as may_wait:
            while may_wait and not _settled(execution) and (left := until - time.monotonic()) > 0:
                await waiter.change(min(left, _POLL_SECONDS))
                execution = waiter.end or await self._read(call, execution.id)
        return execution

    async def _read(self, call: Call, execution_id: str) -> Execution:
        async with self._db.transaction(call) as tx:
            return await self._rows.get(tx, execution_id)

    async def get(self, call: Call, execution_id: str) -> Execution:
        """Return an execution that the caller may see; NotFound."""
        async with self._db.transaction(call) as tx:
            return await self.visible(tx, call, execution_id)

    async def visible(
        self, tx: Transaction, call: Call, execution_id: str, *, lock: bool = False
    ) -> Execution:
        """Return an execution that the caller may see, locked if asked; NotFound."""
        execution = await self._rows.get(tx, execution_id, lock=lock)
        if not _sees_all(call) and execution.owner_user_id != call.user:
            raise SkillsNotFound("execution", execution_id)
        return execution

    async def page(
        self, call: Call, which: ExecutionFilter, size: int, token: str
    ) -> ExecutionPage:
        """Return a page of the caller's executions, of all for administrators; newest first."""
        count = page_size(size)
        which = which if _sees_all(call) else replace(which, owner=call.user)
        query = query_fingerprint(call.method, call.tenant, *astuple(which))
        key = decode_token(query, token)
        before = str(key[0]) if key else ""
        async with self._db.transaction(call) as tx:
            found = await self._rows.page(tx, which, before=before, limit=count + 1)
        page = found[:count]
        more = len(found) > count
        return ExecutionPage(page, encode_token(query, [page[-1].id]) if more else "")

    async def cancel(self, call: Call, execution_id: str) -> Execution:
        """Cancel what has not ended; NotFound. What runs is stopped, and then says how it ended."""
        async with self._db.mutation(call) as tx:
            execution = await self.visible(tx, call, execution_id, lock=True)
            tx.result = execution_id
            if execution.state in _NOT_BEGUN:
                ending = cancelled("cancelled before it ran")
                execution = await end(self._rows, tx, execution, ending) or execution
                await tx.schedule(EXECUTE, execution_id)  # whose work ends with it
            elif not execution.state.ended:
                await self._upkeep.ask_to_cancel(tx, execution_id)
        self._wakeups.wake(execution_id)
        return await self._awaited(call, execution, _CANCEL_SECONDS)


def digest_of(order: Order) -> bytes:
    """Return what tells one order from another."""
    text = json.dumps(astuple(order), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def _settled(execution: Execution) -> bool:
    """Tell whether waiting is of no use: it has ended, or a person has to decide."""
    return execution.state.ended or execution.state is ExecutionState.AWAITING_APPROVAL


def _sees_all(call: Call) -> bool:
    return call.principal.role == ADMINISTRATOR
