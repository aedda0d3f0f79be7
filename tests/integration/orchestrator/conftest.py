"""An orchestrator of the test's own, with its peers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.orchestrator.scripts import Agents
from tests.integration.orchestrator.world import World, opened
from tests.support.fixtures import NewDatabase


@pytest.fixture
def agents() -> Agents:
    """How the agents behave; a test may queue other results."""
    return Agents()


@pytest.fixture
async def idle(new_database: NewDatabase, tmp_path: Path, agents: Agents) -> AsyncIterator[World]:
    """Peers and database; the test runs the orchestrator itself."""
    async with opened(await new_database("orchestrator"), tmp_path, agents) as world:
        agents.skills = world.skills
        yield world


@pytest.fixture
async def world(idle: World) -> AsyncIterator[World]:
    """The same with a replica of the orchestrator that serves."""
    async with idle.serving():
        yield idle
