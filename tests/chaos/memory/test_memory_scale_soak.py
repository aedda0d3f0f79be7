"""A small tenant beside one of 60,000 memories: enough for the planner to think again."""

from __future__ import annotations

import pytest

from tests.integration.memory.conftest import database
from tests.integration.memory.test_memory_scale import compared
from tests.support.postgres import TestDatabase

__all__ = ["database"]  # a fixture of the integration tests


@pytest.mark.timeout(600)
async def test_small_tenant_beside_a_large_one_recalls_as_well_as_alone(
    database: TestDatabase,
) -> None:
    await compared(database, 60_000)
