"""A memory service of the test's own: real server, real database, callers with real tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from gathering_local import embedder
from gathering_memory.app import RunningEmbedder, compose
from gathering_memory.provider_minilm import MiniLmEmbedder
from gathering_mesh.postgres import Database, DatabaseSettings
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.integration.memory.callers import Issuer, Service
from tests.support.fixtures import NewDatabase
from tests.support.postgres import TestDatabase
from tests.support.probe import Authority


@asynccontextmanager
async def serving(
    database: TestDatabase, models: Path | RunningEmbedder, issuer: Authority | None = None
) -> AsyncIterator[Service]:
    """Run the service with its background work until the end of the block."""
    issuer = issuer or Issuer()
    model = MiniLmEmbedder(models) if isinstance(models, Path) else models
    settings = DatabaseSettings(database.app("memory"), database.system("memory"))
    async with Database.open(settings, schema="memory") as db:
        server = GrpcServer(ServerSettings(), issuer.authenticator())
        app = compose(server, db, model)
        await server.start()
        work = asyncio.create_task(app.run())
        try:
            address = f"127.0.0.1:{server.port}"
            async with grpc.aio.insecure_channel(address) as channel:
                yield Service(app, database, issuer, channel, address)
        finally:
            await server.stop(1.0)
            work.cancel()
            await asyncio.wait({work})
            model.close()
            if not work.cancelled():
                work.result()


@pytest.fixture
async def database(new_database: NewDatabase) -> TestDatabase:
    """An empty database with the schema of memory."""
    return await new_database("memory")


@pytest.fixture
async def words_only(database: TestDatabase, tmp_path: Path) -> AsyncIterator[Service]:
    """The service without a model: memories wait for their vectors."""
    async with serving(database, tmp_path) as service:
        yield service


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of the embedder's files, which `make setup` writes."""
    folder = embedder.models_dir()
    assert embedder.is_current(folder / embedder.MODEL), "run `make setup` first"
    return folder


@pytest.fixture
async def service(database: TestDatabase, models: Path) -> AsyncIterator[Service]:
    """The service with its model loaded."""
    async with serving(database, models) as running:
        await running.app.embedder.ready.wait()
        yield running
