"""Put the service together: the only place that knows which adapters are used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from gathering.events.v1 import event_log_service_pb2
from gathering.memory.v1 import memory_service_pb2
from gathering_memory.belonging import Belonging
from gathering_memory.counting import Counting
from gathering_memory.embedding import Embedding
from gathering_memory.ports import Embedder
from gathering_memory.provider_minilm import MiniLmEmbedder
from gathering_memory.reading import Reading
from gathering_memory.recalling import Recalling
from gathering_memory.remembering import Remembering
from gathering_memory.servicer import MemoryServicer
from gathering_memory.servicer_membership import MembershipServicer
from gathering_memory.settings import MemorySettings
from gathering_memory.store import MemoryTable
from gathering_memory.store_members import MembershipTable
from gathering_memory.store_search import CandidateRows, SearchStages
from gathering_memory.store_vectors import EmbeddingTable, RecallStatistics
from gathering_memory.store_writes import MemoryWrites, ShareTable
from gathering_memory.worker import run_when_ready
from gathering_mesh import migration
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.keys import KeySource
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.wiring import open_mesh

_PATIENCE_SECONDS = 20.0  # for a connection, when many write at once


class RunningEmbedder(Embedder, Protocol):
    """An embedder with a loop of its own, ready when its model is."""

    ready: asyncio.Event

    def run(self) -> Coroutine[Any, Any, None]:
        """Embed until cancelled."""

    def close(self) -> None:
        """Release what it holds."""


@dataclass(frozen=True, slots=True)
class MemoryApp:
    """The service: its server, and the work that goes on beside it."""

    server: GrpcServer
    db: Database
    log: EventLog
    counting: Counting
    embedder: RunningEmbedder
    embedding: Embedding

    async def run(self) -> None:
        """Work until cancelled; what is being embedded then is ended before the embedder."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.log.run())
            tasks.create_task(self.counting.run())
            tasks.create_task(self.embedder.run())
            await run_when_ready(self.db, self.embedder.ready, self.embedding.embed)


@asynccontextmanager
async def open_app(
    settings: MemorySettings,
    *,
    users: KeySource | None = None,
    embedder: RunningEmbedder | None = None,
) -> AsyncIterator[MemoryApp]:
    """Yield the service; `users` and `embedder` replace the ones that the settings name."""
    addresses = DatabaseSettings(
        settings.database_url, settings.system_database_url, pool_timeout=_PATIENCE_SECONDS
    )
    model = embedder or MiniLmEmbedder(settings.models_dir, settings.embedder_threads)
    try:
        async with (
            open_mesh(settings, users=users) as mesh,
            Database.open(addresses, schema="memory") as db,
        ):
            await migration.check(db)
            yield compose(mesh.server, db, model)
    finally:
        model.close()


def compose(
    server: GrpcServer,
    db: Database,
    embedder: RunningEmbedder,
    log_settings: EventLogSettings | None = None,
) -> MemoryApp:
    """Return the service on a server and a database."""
    memories, memberships = MemoryTable(), MembershipTable()
    counting = Counting(db, RecallStatistics())
    log = EventLog(db, source="memory", settings=log_settings)
    servicer = MemoryServicer(
        Remembering(db, memories, MemoryWrites(), ShareTable(), memberships),
        Recalling(db, memories, memberships, SearchStages(), CandidateRows(), embedder, counting),
        Reading(db, memories, memberships),
    )
    services = memory_service_pb2.DESCRIPTOR.services_by_name
    server.add(services["MemoryService"], servicer)
    server.add(services["MembershipService"], MembershipServicer(Belonging(db, memberships)))
    server.add(
        event_log_service_pb2.DESCRIPTOR.services_by_name["EventLogService"],
        EventLogServicer(log),
    )
    embedding = Embedding(db, EmbeddingTable(), embedder)
    return MemoryApp(server, db, log, counting, embedder, embedding)
