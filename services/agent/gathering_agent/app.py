"""Put the service together: the only place that knows which adapters are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gathering.agent.v1 import (
    agent_service_pb2,
    budget_service_pb2,
    model_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from gathering.events.v1 import event_log_service_pb2
from gathering_agent.agents.agents import Agents
from gathering_agent.agents.app_templates import load_templates
from gathering_agent.agents.servicer import AgentServicer
from gathering_agent.agents.store import AgentStore
from gathering_agent.agents.store_versions import VersionStore
from gathering_agent.budgets.budgets import Budgets
from gathering_agent.budgets.servicer import BudgetServicer
from gathering_agent.budgets.store import BudgetStore
from gathering_agent.budgets.store_attempts import AttemptStore
from gathering_agent.budgets.store_usage import UsageStore
from gathering_agent.budgets.usage import UsageReport
from gathering_agent.client_auth import AuthClient
from gathering_agent.client_memory import MemoryClient
from gathering_agent.client_skills import SkillsClient
from gathering_agent.context.store_digests import DigestStore
from gathering_agent.ports import DeltaWire, MessageRows, ModelProvider, Rows
from gathering_agent.providers.app_lines import open_lines
from gathering_agent.providers.app_models import open_providers
from gathering_agent.providers.lines import Lines
from gathering_agent.providers.servicer import ModelServicer
from gathering_agent.providers.speaking import Patience
from gathering_agent.remembering.asking import Asking
from gathering_agent.remembering.store import FindingStore
from gathering_agent.remembering.work import Remembering
from gathering_agent.remembering.worth import REMEMBER
from gathering_agent.sessions.archives import Archives
from gathering_agent.sessions.keeping import Keeping
from gathering_agent.sessions.servicer import SessionServicer
from gathering_agent.sessions.sessions import Sessions
from gathering_agent.sessions.store import MessageStore, SessionStore
from gathering_agent.sessions.store_histories import HistoryStore
from gathering_agent.sessions.store_rights import RightStore
from gathering_agent.settings import AgentSettings
from gathering_agent.streams.live import Live
from gathering_agent.streams.sharing import Sharing
from gathering_agent.streams.watching import Watching
from gathering_agent.turns.beginning import Begin
from gathering_agent.turns.inquiry import Peers
from gathering_agent.turns.journal import Journal
from gathering_agent.turns.policy import Policy
from gathering_agent.turns.repeating import Tolerance
from gathering_agent.turns.running import Running
from gathering_agent.turns.servicer import TurnServicer
from gathering_agent.turns.stopping import Stopping
from gathering_agent.turns.store import TurnStore
from gathering_agent.turns.store_queue import QueueStore
from gathering_agent.turns.turns import Turns
from gathering_agent.turns.waiting import RUN, Queue
from gathering_agent.worker import listen, work_loop
from gathering_mesh import migration
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.keys import KeySource
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.wiring import Mesh, open_mesh
from gathering_mesh.work import WorkLoop, WorkSettings

_CONNECTIONS = 16
_REMEMBERED_AT_ONCE = 4  # turns; answers come first
_PATIENCE_SECONDS = 20.0  # for a connection, when many turns come at once


@dataclass(frozen=True, slots=True)
class AgentApp:
    """The service: its server, and the work that goes on beside it."""

    server: GrpcServer
    log: EventLog
    loop: WorkLoop
    live: Live
    lines: Lines
    messages: MessageRows
    sharing: Sharing | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self.sharing is not None:
                tasks.create_task(self.sharing.run())
            tasks.create_task(self.log.run())
            tasks.create_task(self.loop.run())
            tasks.create_task(self.lines.run())
            tasks.create_task(listen(self.log, self.live, self.lines, self.messages))


@asynccontextmanager
async def open_app(
    settings: AgentSettings,
    *,
    users: KeySource | None = None,
    providers: Mapping[str, ModelProvider] | None = None,
) -> AsyncIterator[AgentApp]:
    """Yield the service; `users` and `providers` replace the ones that the settings name."""
    addresses = DatabaseSettings(
        settings.database_url,
        settings.system_database_url,
        pool_size=_CONNECTIONS,
        pool_timeout=_PATIENCE_SECONDS,
    )
    models = dict(providers) if providers is not None else open_providers(settings)
    wire = open_wire(settings)
    try:
        async with (
            open_lines(settings, models) as connect,
            open_mesh(settings, users=users) as mesh,
            Database.open(addresses, schema="agent") as db,
        ):
            await migration.check(db)
            app = compose(settings, mesh, db, connect(db), wire)
            await app.log.start()
            yield app
    finally:
        if wire is not None:
            await wire.aclose()


def compose(
    settings: AgentSettings,
    mesh: Mesh,
    db: Database,
    lines: Lines,
    wire: DeltaWire | None = None,
) -> AgentApp:
    """Return the service on a server and a database."""
    rows = Rows(
        AgentStore(),
        SessionStore(),
        MessageStore(),
        TurnStore(),
        RightStore(),
        AttemptStore(),
        VersionStore(),
        BudgetStore(),
        UsageStore(),
        HistoryStore(),
        QueueStore(),
        FindingStore(),
        DigestStore(),
    )
    authority = AuthClient(settings.service, mesh.channels, mesh.authenticator)
    peers = Peers(MemoryClient(mesh.channels), SkillsClient(mesh.channels), authority)
    live, log = Live(), EventLog(db, source="agent", settings=EventLogSettings.of(settings))
    sessions = Sessions(db, rows, authority)
    queue = Queue(rows, settings.agent_waiting_turns)
    journal, policy = Journal(db, rows, queue), _policy(settings)
    running = Running(journal, lines, peers, live, policy)
    loop = work_loop(
        db,
        running,
        Stopping(rows, peers.skills, authority),
        Remembering(journal, peers, Asking(journal, lines, policy)),
        _work_settings(settings),
    )
    usage = UsageReport(db, rows)
    turns = Turns(
        db, rows, sessions, live, Begin(rows, loop, running, queue), catalogue=lines.catalogue
    )
    servicers = (
        (agent_service_pb2, AgentServicer(Agents(db, rows, lines, load_templates()))),
        (model_service_pb2, ModelServicer(lines)),
        (
            session_service_pb2,
            SessionServicer(
                sessions, Keeping(db, rows, sessions, turns), Archives(db, rows, sessions)
            ),
        ),
        (turn_service_pb2, TurnServicer(turns, Watching(db, rows, turns, live), usage)),
        (budget_service_pb2, BudgetServicer(Budgets(db, rows, sessions), usage)),
        (event_log_service_pb2, EventLogServicer(log)),
    )
    for module, servicer in servicers:
        (service,) = module.DESCRIPTOR.services_by_name.values()
        mesh.server.add(service, servicer)
    sharing = Sharing(live, wire) if wire else None
    return AgentApp(mesh.server, log, loop, live, lines, rows.messages, sharing)


def open_wire(settings: AgentSettings) -> DeltaWire | None:
    """Return what carries text between replicas, if there is any."""
    url = settings.redis_url.get_secret_value()
    if not url:
        return None
    from gathering_agent.client_redis import RedisWire  # costs time only where it is used

    return RedisWire(url)


def _policy(settings: AgentSettings) -> Policy:
    patience = Patience(
        attempts=settings.agent_model_attempts, call_seconds=settings.agent_model_call_seconds
    )
    return Policy(
        patience,
        turn_seconds=settings.agent_turn_seconds,
        budget_seconds=settings.agent_budget_seconds,
        tolerance=Tolerance(settings.agent_repeated_calls, settings.agent_idle_rounds),
    )


def _work_settings(settings: AgentSettings) -> WorkSettings:
    return WorkSettings(
        lease=settings.agent_lease_seconds,
        concurrency_of={RUN: settings.agent_concurrent_turns, REMEMBER: _REMEMBERED_AT_ONCE},
    )
