"""The kinds of work that go on by themselves; each handler is a verb."""

from __future__ import annotations

from gathering_mesh.postgres import Database
from gathering_mesh.work import WorkLoop, WorkSettings
from gathering_orchestrator.circles.members import PUSH, REFRESH, Members
from gathering_orchestrator.tasks.drive import Driver
from gathering_orchestrator.tasks.moves import WORK


def work_loop(
    db: Database, driver: Driver, members: Members, *, lease: float, concurrency: int
) -> WorkLoop:
    """Return the loop of this service; `lease` in seconds, `concurrency` of tasks."""
    settings = WorkSettings(lease=lease, concurrency_of={WORK: concurrency})
    handlers = {WORK: driver.drive, PUSH: members.push_again, REFRESH: members.refresh}
    return WorkLoop(db, handlers, settings)
