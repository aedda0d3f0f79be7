"""A database of the service `probe`, which exists for these tests alone."""

from collections.abc import AsyncIterator

import pytest

from gathering_mesh.postgres import Database, DatabaseSettings
from tests.support.fixtures import NewDatabase
from tests.support.postgres import TestDatabase


@pytest.fixture
async def probe(new_database: NewDatabase) -> TestDatabase:
    """A database with the schema of the service."""
    return await new_database("probe")


@pytest.fixture
async def db(probe: TestDatabase) -> AsyncIterator[Database]:
    """The service's own way to it."""
    async with Database.open(database_settings(probe), schema="probe") as database:
        yield database


def database_settings(probe: TestDatabase) -> DatabaseSettings:
    """Return the service's settings, with few connections."""
    return DatabaseSettings(
        probe.app("probe"), probe.system("probe"), pool_size=4, system_pool_size=3
    )
