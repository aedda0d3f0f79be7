"""A service that has nothing but an event log: a peer for whoever reads logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gathering.events.v1 import event_log_service_pb2
from gathering_mesh.eventlog import EventLog, EventLogServicer, EventLogSettings
from gathering_mesh.events import DomainEvent
from gathering_mesh.keys import actor_keys_in, keys_of
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from gathering_mesh.tokens import Authenticator
from tests.support.postgres import TestDatabase

SERVICE = "probe"


@dataclass(frozen=True)
class MemoryForgotten(DomainEvent):
    """An event of the contract that any test may use."""

    memory_id: str


@dataclass(frozen=True)
class PeerLog:
    """The running peer."""

    db: Database
    log: EventLog
    port: int

    async def write(self, tenant: str, *ids: str, audience: tuple[str, ...] = ()) -> None:
        """Write an event about each id, in one transaction."""
        async with self.db.transaction(tenant) as tx:
            for name in ids:
                tx.emit(name, MemoryForgotten(memory_id=name), audience)


@asynccontextmanager
async def running_peer(
    database: TestDatabase,
    folder: Path,
    port: int = 0,
    settings: EventLogSettings | None = None,
    service: str = SERVICE,
) -> AsyncIterator[PeerLog]:
    """Serve the log of a schema; `folder` has the services' public keys."""
    found = DatabaseSettings(database.app(service), database.system(service))
    async with Database.open(found, schema=service) as db:
        log = EventLog(db, service, settings)
        authenticator = Authenticator(keys_of(dict), actor_keys_in(folder / "actors.json"))
        server = GrpcServer(ServerSettings(port=port), authenticator)
        services = event_log_service_pb2.DESCRIPTOR.services_by_name
        server.add(services["EventLogService"], EventLogServicer(log))
        work = asyncio.create_task(log.run())
        await server.start()
        try:
            yield PeerLog(db, log, server.port)
        finally:
            await server.stop(0.2)
            work.cancel()
            await asyncio.wait({work})
            await authenticator.aclose()
