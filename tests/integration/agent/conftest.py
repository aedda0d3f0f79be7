"""A fresh database, the peers, and a scripted model for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.agent.harness import Scripted, Service, serving
from tests.integration.agent.peers import Issuer, Peers, serving_peers
from tests.support.fixtures import NewDatabase
from tests.support.postgres import TestDatabase


@pytest.fixture
async def database(new_database: NewDatabase) -> TestDatabase:
    """An empty database with the schema of agent."""
    return await new_database("agent")


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    """The services around."""
    async with serving_peers(Issuer()) as running:
        yield running


@pytest.fixture
def model() -> Scripted:
    """The model that all agents of the test use."""
    return Scripted()


@pytest.fixture
async def service(
    database: TestDatabase, peers: Peers, model: Scripted, tmp_path: Path
) -> AsyncIterator[Service]:
    """The service."""
    async with serving(database, peers, tmp_path, model) as running:
        yield running
