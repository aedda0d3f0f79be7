"""Fixtures of every tier; the server starts when the first test asks for a database."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.postgres import Databases, TestDatabase

NewDatabase = Callable[..., Awaitable["TestDatabase"]]


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> "Iterator[Databases]":
    """The databases of the run's one PostgreSQL server, which all xdist workers share."""
    # Imported here: unit tests load this file too, and have no use for a database driver.
    from tests.support.postgres import Databases, shared_server

    worker = getattr(request.config, "workerinput", None)
    with shared_server(worker["testrunuid"] if worker else uuid.uuid4().hex) as server:
        yield Databases(server)


@pytest.fixture
async def new_database(databases: "Databases") -> AsyncIterator[NewDatabase]:
    """`await new_database("memory")`: a migrated, empty database, dropped after the test."""
    made: list[TestDatabase] = []

    async def create(*services: str) -> "TestDatabase":
        made.append(await databases.create(*services))
        return made[-1]

    yield create
    for database in made:
        await databases.drop(database)
