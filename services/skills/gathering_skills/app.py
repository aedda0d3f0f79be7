"""Put the service together: the only place that knows which adapters are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gathering.events.v1 import event_log_service_pb2
from gathering.skills.v1 import (
    execution_service_pb2,
    skill_service_pb2,
    workspace_service_pb2,
)
from gathering_mesh import migration
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.keys import KeySource
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.wiring import open_mesh
from gathering_mesh.work import WorkLoop
from gathering_skills.attempt import Attempt
from gathering_skills.boundary import Boundary, Limits
from gathering_skills.catalogue import Catalogue
from gathering_skills.directories import Directories
from gathering_skills.executions import Executions
from gathering_skills.grants import Grants
from gathering_skills.ports import Inspector
from gathering_skills.projects import Projects
from gathering_skills.provider_inspector import InspectorProcess, scratch_folder
from gathering_skills.purging import Purging
from gathering_skills.questions import Approvals
from gathering_skills.runs import Runs
from gathering_skills.servicer_executions import ExecutionServicer
from gathering_skills.servicer_skills import SkillServicer
from gathering_skills.servicer_workspaces import WorkspaceServicer
from gathering_skills.settings import SkillsSettings
from gathering_skills.stage import Stage
from gathering_skills.store import GrantStore, WorkspaceStore
from gathering_skills.store_executions import ExecutionStore
from gathering_skills.store_outputs import OutputStore
from gathering_skills.tooling.tool import Skill
from gathering_skills.tools.standard import SKILLS
from gathering_skills.waiting import Wakeups
from gathering_skills.watching import Watching
from gathering_skills.worker import listen, work_loop
from gathering_skills.workspaces import Workspaces


@dataclass(frozen=True, slots=True)
class SkillsApp:
    """The service: its server, and the work that goes on beside it."""

    server: GrpcServer
    log: EventLog
    loop: WorkLoop
    wakeups: Wakeups

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.log.run())
            tasks.create_task(self.loop.run())
            tasks.create_task(listen(self.log, self.wakeups))


@asynccontextmanager
async def open_app(
    settings: SkillsSettings,
    *,
    users: KeySource | None = None,
    skills: Sequence[Skill] = SKILLS,
) -> AsyncIterator[SkillsApp]:
    """Yield the service; `users` and `skills` replace the usual ones."""
    addresses = DatabaseSettings(settings.database_url, settings.system_database_url)
    with scratch_folder(settings.scratch_folder) as scratch:
        inspector = InspectorProcess(settings.ruff, scratch, settings.inspections)
        async with (
            open_mesh(settings, users=users) as mesh,
            Database.open(addresses, schema="skills") as db,
        ):
            await migration.check(db)
            app = compose(mesh.server, db, inspector, settings, skills)
            await app.log.start()
            yield app


def compose(
    server: GrpcServer,
    db: Database,
    inspector: Inspector,
    settings: SkillsSettings,
    skills: Sequence[Skill] = SKILLS,
) -> SkillsApp:
    """Return the service on a server and a database."""
    catalogue, wakeups = Catalogue(skills), Wakeups()
    log = EventLog(db, source="skills", settings=EventLogSettings.of(settings))
    executions, grants, workspaces = ExecutionStore(), GrantStore(), WorkspaceStore()
    outputs = OutputStore()
    directories = Directories(settings.workspace_roots, settings.closed_directories)
    limits = Limits(settings.live_executions)
    boundary = Boundary(catalogue, grants, workspaces, executions, limits)
    verbs = Executions(db, executions, executions, boundary, wakeups)
    approvals = Approvals(db, executions, boundary, wakeups)
    watching = Watching(db, verbs, outputs, wakeups)
    places = Workspaces(db, workspaces, directories, shared=settings.share_directories)
    servicers = (
        (skill_service_pb2, SkillServicer(Grants(db, grants, catalogue, boundary))),
        (execution_service_pb2, ExecutionServicer(verbs, approvals, watching)),
        (
            workspace_service_pb2,
            WorkspaceServicer(places, Projects(places, directories, inspector)),
        ),
        (event_log_service_pb2, EventLogServicer(log)),
    )
    for module, servicer in servicers:
        (service,) = module.DESCRIPTOR.services_by_name.values()
        server.add(service, servicer)
    attempt = Attempt(db, executions, Stage(directories, inspector), wakeups)
    runs = Runs(executions, outputs, workspaces, catalogue, attempt, wakeups=wakeups)
    loop = work_loop(
        db,
        runs,
        Purging(executions, settings.execution_days),
        lease=settings.lease_seconds,
        concurrency=settings.concurrent_executions,
    )
    return SkillsApp(server, log, loop, wakeups)
