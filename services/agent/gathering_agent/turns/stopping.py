"""After a turn was cancelled, or its time was over: cancel the tools that it left running."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from gathering_agent.ports import Authority, Rows, Skills, Work
from gathering_mesh.errors import NotFound, PermissionDenied, Unauthenticated
from gathering_mesh.lease import Lease

STOP_TOOLS = "turn_tools"  # the kind of work
_AGAIN = timedelta(seconds=1)
_LOOKS = timedelta(seconds=3)  # for a call that was on its way when the turn was cancelled
_GIVE_UP = timedelta(minutes=10)  # after the turn's end; no tool runs that long
_log = logging.getLogger(__name__)


class Stopping:
    """Cancels executions, as work of its own: no replica's death leaves them running.

    Model calls whose replica died before the turn was cancelled are settled as well.
    """

    def __init__(self, rows: Rows, skills: Skills, authority: Authority) -> None:
        self._rows = rows
        self._skills = skills
        self._authority = authority

    async def run(self, lease: Lease) -> None:
        """Cancel the executions of a turn until none is left that has not ended."""
        async with lease.transaction() as tx:
            turn = await self._rows.turns.get(tx, lease.id, deleted=True)
            session = await self._rows.sessions.get(tx, turn.session_id, deleted=True)
        try:
            right = turn.delegation_id or session.delegation_id
            call = await self._authority.call(lease.tenant, right, turn.trace)
            work = Work(
                call, turn.agent_id, session.id, turn.id, turn.task_id, session.workspace_id
            )
            found = await self._skills.cancel_all(work)
        except (NotFound, PermissionDenied, Unauthenticated) as error:
            _log.warning("the tools of turn %s cannot be cancelled: %s", turn.id, error.message)
            found = 0
        now = datetime.now(UTC)
        age = now - (turn.end_time or now)
        async with lease.transaction() as tx:
            if age < _LOOKS or (found and age < _GIVE_UP):
                await lease.again(tx, _AGAIN)
            else:
                await self._rows.turns.hold(tx, turn.id)
                await self._rows.attempts.settle_lost(tx, turn.id)
                await lease.done(tx)
