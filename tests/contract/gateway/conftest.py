"""A gateway for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.fixtures import NewDatabase
from tests.support.gateway import Gateway, running_gateway


@pytest.fixture
async def gateway(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with an empty database and its own keys."""
    async with running_gateway(await new_database("gateway"), tmp_path) as running:
        yield running
