"""A replica of the agent service dies at each point of a turn, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.agent.killing import cases, two_replicas
from tests.integration.agent.peers import Issuer, Peers, serving_peers
from tests.support.fixtures import NewDatabase


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    async with serving_peers(Issuer()) as running:
        yield running


@pytest.mark.timeout(1800)
async def test_turn_goes_on_at_the_other_replica_wherever_the_first_one_dies(
    new_database: NewDatabase, peers: Peers, tmp_path: Path
) -> None:
    database = await new_database("agent", "skills")
    async with two_replicas(database, peers, tmp_path) as world:
        for case in cases():
            await world.survive(case)
