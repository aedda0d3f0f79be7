"""After a turn was cancelled: cancel the tools that it left running."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gathering_agent.ports import Authority, Rows, Skills, Work
from gathering_mesh.lease import Lease

_AGAIN = timedelta(seconds=1)
_GIVE_UP = timedelta(minutes=10)  # after the turn's end; no tool runs that long


class Stopping:
    """Cancels executions, as work of its own: no replica's death leaves them running."""

    def __init__(self, rows: Rows, skills: Skills, authority: Authority) -> None:
        self._rows = rows
        self._skills = skills
        self._authority = authority

    async def run(self, lease: Lease) -> None:
        """Cancel the executions of a turn until none is left that has not ended."""
        async with lease.transaction() as tx:
            turn = await self._rows.turns.get(tx, lease.id)
            session = await self._rows.sessions.get(tx, turn.session_id)
        call = await self._authority.call(lease.tenant, session.delegation_id, turn.trace)
        work = Work(call, turn.agent_id, session.id, turn.id, turn.task_id, session.workspace_id)
        found = await self._skills.cancel_all(work)
        now = datetime.now(UTC)
        if found and turn.end_time and now - turn.end_time < _GIVE_UP:
            async with lease.transaction() as tx:
                await lease.again(tx, now + _AGAIN)
