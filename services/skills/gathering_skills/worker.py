"""Claims executions, and listens to the log for those that other replicas ran."""

from __future__ import annotations

from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.eventlog import EventLog
from gathering_mesh.loops import forever
from gathering_mesh.postgres import Database
from gathering_mesh.work import WorkLoop, WorkSettings
from gathering_skills.models import EXECUTE, PURGE
from gathering_skills.purging import Purging
from gathering_skills.runs import Runs
from gathering_skills.waiting import Wakeups

_STARTED, _FINISHED = "execution_started", "execution_finished"
_CLOSED = "approval_closed"
_CHANGES = EventFilter(types=frozenset({_STARTED, _FINISHED, _CLOSED}))


def work_loop(
    db: Database, runs: Runs, purging: Purging, *, lease: float, concurrency: int
) -> WorkLoop:
    """Return the loop that runs executions.

    Their effects are stopped by no fence, so whoever cannot renew a lease stops before it ends.
    """
    settings = WorkSettings(
        lease=lease,
        concurrency_of={EXECUTE: concurrency, PURGE: 1},
        strict=frozenset({EXECUTE}),
    )
    return WorkLoop(db, {EXECUTE: runs.run, PURGE: purging.run}, settings)


async def listen(log: EventLog, wakeups: Wakeups) -> None:
    """Wake those who wait here for what any replica did, until cancelled."""
    await forever("listen to the log", lambda: _follow(log, wakeups))


async def _follow(log: EventLog, wakeups: Wakeups) -> None:
    async for frame in log.tail(None, None, _CHANGES):
        event = frame.entry.event
        if event.type == _FINISHED:
            wakeups.wake(event.aggregate_id)
        else:
            wakeups.started(event.aggregate_id)
