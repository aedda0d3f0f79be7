"""Put the service together; the one place that names concrete parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from gathering.events.v1 import event_log_service_pb2
from gathering.orchestrator.v1 import circle_service_pb2, task_service_pb2
from gathering_mesh import migration
from gathering_mesh.consumer import Consumer
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.wiring import Mesh, open_mesh
from gathering_mesh.work import WorkLoop
from gathering_orchestrator.circles.circles import Circles
from gathering_orchestrator.circles.members import Members
from gathering_orchestrator.circles.servicer import CircleServicer
from gathering_orchestrator.circles.store import (
    PostgresAgents,
    PostgresCircles,
    PostgresMembers,
)
from gathering_orchestrator.client_agent import AgentClient
from gathering_orchestrator.client_gateway import GatewayClient
from gathering_orchestrator.client_memory import MemoryClient
from gathering_orchestrator.client_skills import SkillsClient
from gathering_orchestrator.settings import OrchestratorSettings
from gathering_orchestrator.tasks.decisions import Decisions
from gathering_orchestrator.tasks.drive import Driver
from gathering_orchestrator.tasks.moves import Moves
from gathering_orchestrator.tasks.offers import Offers
from gathering_orchestrator.tasks.reviews import Reviews
from gathering_orchestrator.tasks.routing import Routing
from gathering_orchestrator.tasks.servicer import TaskServicer
from gathering_orchestrator.tasks.store import PostgresTaskQueries, PostgresTasks
from gathering_orchestrator.tasks.store_offers import PostgresOffers
from gathering_orchestrator.tasks.store_reviews import PostgresArtifacts, PostgresReviews
from gathering_orchestrator.tasks.store_turns import PostgresTurns
from gathering_orchestrator.tasks.tasks import Tasks
from gathering_orchestrator.tasks.turns import Turns
from gathering_orchestrator.tasks.work import Work
from gathering_orchestrator.worker import work_loop
from gathering_orchestrator.worker_events import TYPES, AgentReactions, concerns
from gathering_orchestrator.worker_signals import TaskSignals

SCHEMA = "orchestrator"


@dataclass(frozen=True, slots=True)
class App:
    """The server, and what goes on beside it."""

    server: GrpcServer
    log: EventLog
    signals: TaskSignals
    consumer: Consumer
    loop: WorkLoop

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in (self.log, self.signals, self.consumer, self.loop):
                tasks.create_task(part.run())


@asynccontextmanager
async def open_app(settings: OrchestratorSettings) -> AsyncIterator[App]:
    """Yield the service, ready to serve."""
    where = DatabaseSettings(
        url=settings.database_url,
        system_url=settings.system_database_url,
        pool_size=settings.connections,
    )
    async with open_mesh(settings) as mesh, Database.open(where, SCHEMA) as db:
        await migration.check(db)
        log = EventLog(db, source=SCHEMA, settings=EventLogSettings.of(settings))
        await log.start()
        yield _compose(settings, mesh, db, log)


def _compose(settings: OrchestratorSettings, mesh: Mesh, db: Database, log: EventLog) -> App:
    clock = rows = PostgresTasks()
    queries, offers, reviews = PostgresTaskQueries(), PostgresOffers(), PostgresReviews()
    artifacts, turn_rows = PostgresArtifacts(), PostgresTurns()
    circles, members, copies = PostgresCircles(), PostgresMembers(), PostgresAgents()
    agent, skills = AgentClient(mesh.channels), SkillsClient(mesh.channels)
    permits = GatewayClient(settings.service, mesh.channels, mesh.authenticator)
    signals = TaskSignals(log)

    moves = Moves(rows, queries, offers, reviews, members)
    turns = Turns(db, turn_rows, agent, timedelta(seconds=settings.turn_check))
    answers = Offers(db, rows, offers, members, copies, moves)
    routing = Routing(
        clock, rows, offers, members, copies, moves, answers, agent, permits,
        timedelta(seconds=settings.candidate_patience),
    )  # fmt: skip
    work = Work(db, clock, rows, reviews, artifacts, turn_rows, turns, moves, skills, permits)
    review_steps = Reviews(
        db, clock, rows, reviews, artifacts, members, turn_rows, turns, moves, skills, permits,
        timedelta(seconds=settings.review_patience),
    )  # fmt: skip
    task_verbs = Tasks(db, clock, circles, rows, queries, moves, signals, skills, permits, agent)
    member_verbs = Members(
        db, clock, circles, members, members, copies, agent, MemoryClient(mesh.channels), permits,
        answers, task_verbs,
    )  # fmt: skip
    circle_verbs = Circles(db, circles, member_verbs, skills, permits)
    driver = Driver(
        db,
        rows,
        moves,
        routing,
        work,
        review_steps,
        turns,
        permits,
        clock,
        timedelta(seconds=settings.permission_grace),
    )

    _serve(
        mesh.server,
        log,
        CircleServicer(circle_verbs, member_verbs),
        TaskServicer(task_verbs, answers, work, Decisions(db, clock, reviews, moves)),
    )
    return App(
        server=mesh.server,
        log=log,
        signals=signals,
        consumer=Consumer(
            db, "turns", "agent", mesh.channels.to("agent"),
            AgentReactions(turns, member_verbs).handle, TYPES,
            outgoing=mesh.channels.outgoing_as_actor, concerns=concerns,
        ),
        loop=work_loop(
            db, driver, member_verbs, lease=settings.lease, concurrency=settings.task_concurrency
        ),
    )  # fmt: skip


def _serve(server: GrpcServer, log: EventLog, circles: CircleServicer, tasks: TaskServicer) -> None:
    server.add(circle_service_pb2.DESCRIPTOR.services_by_name["CircleService"], circles)
    server.add(task_service_pb2.DESCRIPTOR.services_by_name["TaskService"], tasks)
    server.add(
        event_log_service_pb2.DESCRIPTOR.services_by_name["EventLogService"],
        EventLogServicer(log),
    )
