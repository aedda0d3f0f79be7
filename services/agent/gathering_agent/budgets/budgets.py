"""Budgets: set, read, list, delete; and what was used. Calls book on them in `spending`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gathering_agent.budgets.models import (
    Budget,
    BudgetFilter,
    BudgetTerms,
    Caps,
    Level,
    Subject,
)
from gathering_agent.errors import (
    BadSubject,
    BudgetInUse,
    BudgetNotFound,
    BudgetNotYours,
    StaleEtag,
)
from gathering_agent.events import BudgetDeleted, BudgetSet
from gathering_agent.ports import Rows
from gathering_agent.sessions.sessions import ADMIN, Sessions, may_see
from gathering_agent.turns.turns import TASKS
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction

_PREFIXES = {
    Level.TENANT: "",
    Level.AGENT: "agt_",
    Level.SESSION: "ses_",
    Level.TASK: "tsk_",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller wants to set."""

    subject: Subject
    caps: Caps
    parent_task_id: str = ""
    etag: str = ""


class Budgets:
    """The verbs on budgets."""

    def __init__(self, db: Database, rows: Rows, sessions: Sessions) -> None:
        self._db = db
        self._rows = rows
        self._sessions = sessions

    async def set(self, call: Call, wanted: Wanted) -> Budget:
        """Set all caps of a subject; what was spent stays.

        Raises BadSubject, AgentNotFound, SessionNotFound, BudgetNotYours, StaleEtag.
        """
        _check(wanted)
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.budgets.get(tx, tx.replay)
            owner = await self._owner(tx, call, wanted.subject)
            self._may_change(call, await self._present(tx, wanted), wanted.etag)
            terms = BudgetTerms(
                wanted.subject, wanted.caps, owner, _administers(call), wanted.parent_task_id
            )
            budget = await self._rows.budgets.put(tx, terms)
            event = BudgetSet(budget.id, wanted.subject.level, wanted.subject.id)
            tx.emit(budget.id, event, audience=_audience(budget))
            tx.result = budget.id
        return budget

    async def _present(self, tx: Transaction, wanted: Wanted) -> Budget | None:
        which = BudgetFilter(wanted.subject.level, wanted.subject.id)
        found = await self._rows.budgets.page(tx, which, before="", limit=1)
        return await self._rows.budgets.get(tx, found[0].id, lock=True) if found else None

    def _may_change(self, call: Call, budget: Budget | None, etag: str) -> None:
        if budget is not None and budget.by_admin and not _administers(call):
            raise BudgetNotYours("an administrator has set it")
        if etag and (budget is None or etag != budget.etag):
            raise StaleEtag("the budget was set since it was read")

    async def _owner(self, tx: Transaction, call: Call, subject: Subject) -> str:
        """Return who may see a budget beside administrators, if not everybody; BudgetNotYours."""
        if subject.level is Level.SESSION:
            session = await self._sessions.visible(tx, call, subject.id)
            return session.owner_user_id
        orchestrated = subject.level is Level.TASK and call.principal.actor == TASKS
        if not (_administers(call) or orchestrated):
            raise BudgetNotYours(f"administrators set the budget of a {subject.level}")
        if subject.level is Level.AGENT:
            await self._rows.agents.get(tx, subject.id)
        return ""

    async def get(self, call: Call, budget_id: str) -> Budget:
        """Return a budget that the caller may see; BudgetNotFound."""
        async with self._db.transaction(call) as tx:
            return await self._visible(tx, call, budget_id)

    async def _visible(
        self, tx: Transaction, call: Call, budget_id: str, *, lock: bool = False
    ) -> Budget:
        budget = await self._rows.budgets.get(tx, budget_id, lock=lock)
        if budget.owner_user_id and not may_see(call, budget.owner_user_id):
            raise BudgetNotFound(budget_id)
        return budget

    async def page(
        self, call: Call, which: BudgetFilter, *, before: str, limit: int
    ) -> list[Budget]:
        """Return the budgets that the caller may see, newest first."""
        which = replace(which, seen_by="" if _administers(call) else call.user)
        async with self._db.transaction(call) as tx:
            return await self._rows.budgets.page(tx, which, before=before, limit=limit)

    async def delete(self, call: Call, budget_id: str) -> Budget:
        """Delete a budget; return it as it was. BudgetNotFound, BudgetNotYours, BudgetInUse."""
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.budgets.get(tx, tx.replay, deleted=True)
            budget = await self._visible(tx, call, budget_id, lock=True)
            if budget.subject.level is Level.TURN:
                raise BudgetNotYours("a turn keeps its budget")
            await self._owner(tx, call, budget.subject)
            self._may_change(call, budget, "")
            if not await self._rows.budgets.remove(tx, budget.id):
                raise BudgetInUse("tasks below draw on it", metadata={"resource": budget.id})
            event = BudgetDeleted(budget.id, budget.subject.level, budget.subject.id)
            tx.emit(budget.id, event, audience=_audience(budget))
            tx.result = budget.id
        return budget


def _check(wanted: Wanted) -> None:
    """Raise BadSubject where level, subject and parent do not fit."""
    level, name = wanted.subject.level, wanted.subject.id
    if level not in _PREFIXES:
        raise BadSubject("wrong level", fields={"level": "a turn's budget is set with the turn"})
    prefix = _PREFIXES[level]
    if not name.startswith(prefix) or bool(name) != bool(prefix):
        wants = f"must be an id that begins with {prefix}" if prefix else "must be empty"
        raise BadSubject("wrong subject", fields={"subject_id": wants})
    if wanted.parent_task_id and level is not Level.TASK:
        raise BadSubject("wrong parent", fields={"parent_task_id": "only a task has one"})


def _administers(call: Call) -> bool:
    return call.principal.role == ADMIN


def _audience(budget: Budget) -> tuple[str, ...]:
    return (budget.owner_user_id,) if budget.owner_user_id else ()
