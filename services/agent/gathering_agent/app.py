"""Put the service together: the only place that knows which adapters are used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gathering.agent.v1 import (
    agent_service_pb2,
    model_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from gathering.events.v1 import event_log_service_pb2
from gathering_agent.agents import Agents
from gathering_agent.beginning import RUN, Begin
from gathering_agent.catalogue import Catalogue, Model
from gathering_agent.client_auth import AuthClient
from gathering_agent.client_memory import MemoryClient
from gathering_agent.client_skills import SkillsClient
from gathering_agent.journal import Journal
from gathering_agent.live import Live
from gathering_agent.offline.model import think
from gathering_agent.policy import Policy
from gathering_agent.ports import DeltaWire, ModelProvider, Rows
from gathering_agent.provider_offline import OfflineProvider
from gathering_agent.running import Peers, Running
from gathering_agent.servicer_agents import AgentServicer, ModelServicer
from gathering_agent.servicer_sessions import SessionServicer
from gathering_agent.servicer_turns import TurnServicer
from gathering_agent.sessions import Sessions
from gathering_agent.settings import OPENAI_URL, AgentSettings, ModelEntry
from gathering_agent.sharing import Sharing
from gathering_agent.speaking import Patience
from gathering_agent.stopping import Stopping
from gathering_agent.store import AgentStore
from gathering_agent.store_attempts import AttemptStore
from gathering_agent.store_rights import RightStore
from gathering_agent.store_sessions import MessageStore, SessionStore
from gathering_agent.store_turns import TurnStore
from gathering_agent.turns import Turns
from gathering_agent.watching import Watching
from gathering_agent.worker import listen, work_loop
from gathering_mesh import migration
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.keys import KeySource
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.wiring import Mesh, open_mesh
from gathering_mesh.work import WorkLoop, WorkSettings

OFFLINE = "offline"
_CONNECTIONS = 16
_PATIENCE_SECONDS = 20.0  # for a connection, when many turns come at once
_OFFLINE_WINDOW = 1_000_000
_OFFLINE_OUTPUT = 100_000
# OpenAI's own models, where no others are named; these take tools without reasoning only.
_OPENAI_MODELS = (
    ModelEntry(name="gpt-6-sol", context_window_tokens=1_050_000, max_output_tokens=32_000),
    ModelEntry(name="gpt-6-luna", context_window_tokens=1_050_000, max_output_tokens=32_000),
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentApp:
    """The service: its server, and the work that goes on beside it."""

    server: GrpcServer
    log: EventLog
    loop: WorkLoop
    live: Live
    sharing: Sharing | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self.sharing is not None:
                tasks.create_task(self.sharing.run())
            tasks.create_task(self.log.run())
            tasks.create_task(self.loop.run())
            tasks.create_task(listen(self.log, self.live))


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
        catalogue = Catalogue(_models(settings), models, _default(settings, models))
        async with (
            open_mesh(settings, users=users) as mesh,
            Database.open(addresses, schema="agent") as db,
        ):
            await migration.check(db)
            app = compose(settings, mesh, db, catalogue, wire)
            await app.log.start()
            yield app
    finally:
        for provider in models.values():
            await provider.aclose()
        if wire is not None:
            await wire.aclose()


def compose(
    settings: AgentSettings,
    mesh: Mesh,
    db: Database,
    catalogue: Catalogue,
    wire: DeltaWire | None = None,
) -> AgentApp:
    """Return the service on a server and a database."""
    rows = Rows(
        AgentStore(), SessionStore(), MessageStore(), TurnStore(), RightStore(), AttemptStore()
    )
    authority = AuthClient(settings.service, mesh.channels, mesh.authenticator)
    peers = Peers(MemoryClient(mesh.channels), SkillsClient(mesh.channels), authority)
    live, log = Live(), EventLog(db, source="agent", settings=EventLogSettings.of(settings))
    sessions = Sessions(db, rows, authority)
    running = Running(Journal(db, rows), catalogue, peers, live, _policy(settings))
    loop = work_loop(db, running, Stopping(rows, peers.skills, authority), _work_settings(settings))
    turns = Turns(db, rows, sessions, live, Begin(rows, loop, running))
    servicers = (
        (agent_service_pb2, AgentServicer(Agents(db, rows, catalogue))),
        (model_service_pb2, ModelServicer(catalogue)),
        (session_service_pb2, SessionServicer(sessions)),
        (turn_service_pb2, TurnServicer(turns, Watching(db, rows, turns, live))),
        (event_log_service_pb2, EventLogServicer(log)),
    )
    for module, servicer in servicers:
        (service,) = module.DESCRIPTOR.services_by_name.values()
        mesh.server.add(service, servicer)
    return AgentApp(mesh.server, log, loop, live, Sharing(live, wire) if wire else None)


def open_wire(settings: AgentSettings) -> DeltaWire | None:
    """Return what carries text between replicas, if there is any."""
    url = settings.redis_url.get_secret_value()
    if not url:
        return None
    from gathering_agent.client_redis import RedisWire  # costs time only where it is used

    return RedisWire(url)


def open_providers(settings: AgentSettings) -> dict[str, ModelProvider]:
    """Return the providers for which there are credentials, and the offline model.

    The SDKs take seconds and 80 MB to import, so that they are only where they are used.
    """
    providers: dict[str, ModelProvider] = {OFFLINE: OfflineProvider(think)}
    if key := settings.anthropic_api_key.get_secret_value():
        from gathering_agent.provider_anthropic import AnthropicProvider

        providers["anthropic"] = AnthropicProvider(key, settings.anthropic_base_url)
    key = settings.openai_api_key.get_secret_value()
    if _openai_models(settings) and (key or settings.openai_base_url != OPENAI_URL):
        from gathering_agent.provider_openai import OpenAiProvider

        official = settings.openai_base_url == OPENAI_URL
        effort = settings.agent_openai_reasoning_effort or ("none" if official else "")
        providers["openai"] = OpenAiProvider(key, settings.openai_base_url, reasoning_effort=effort)
    elif key:
        _log.warning(
            "no models of %s are named (GATHERING_AGENT_OPENAI_MODELS)", settings.openai_base_url
        )
    return providers


def _openai_models(settings: AgentSettings) -> tuple[ModelEntry, ...]:
    if settings.agent_openai_models or settings.openai_base_url != OPENAI_URL:
        return settings.agent_openai_models
    return _OPENAI_MODELS


def _models(settings: AgentSettings) -> list[Model]:
    offered = {"anthropic": settings.agent_anthropic_models, "openai": _openai_models(settings)}
    return [
        Model(OFFLINE, OFFLINE, OFFLINE, _OFFLINE_WINDOW, _OFFLINE_OUTPUT),
        *(
            Model(
                f"{provider}/{entry.name}",
                provider,
                entry.name,
                entry.context_window_tokens,
                entry.max_output_tokens,
            )
            for provider, entries in offered.items()
            for entry in entries
        ),
    ]


def _default(settings: AgentSettings, providers: Mapping[str, ModelProvider]) -> str:
    if settings.agent_default_model:
        return settings.agent_default_model
    keyed = (model.name for model in _models(settings)[1:] if model.provider in providers)
    return next(keyed, OFFLINE)


def _policy(settings: AgentSettings) -> Policy:
    patience = Patience(
        attempts=settings.agent_model_attempts, call_seconds=settings.agent_model_call_seconds
    )
    return Policy(patience, turn_seconds=settings.agent_turn_seconds)


def _work_settings(settings: AgentSettings) -> WorkSettings:
    return WorkSettings(
        lease=settings.agent_lease_seconds, concurrency_of={RUN: settings.agent_concurrent_turns}
    )
