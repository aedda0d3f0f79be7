"""A replica that dies at a chosen point of a turn; `tests/chaos` has all points."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.agent.killing import Case, cases, two_replicas
from tests.integration.agent.peers import Peers
from tests.support.fixtures import NewDatabase

# One of each kind: around stores, model calls and tool calls, and inside them.
SHORT = (
    Case("mutation.committed", 1),
    Case("turn.model_call", 2),
    Case("inside model", 1, asks_again=1),
    Case("turn.model_answered", 2, asks_again=2),
    Case("transaction.flushed", 3, asks_again=2),
    Case("turn.step_stored", 3),
    Case("inside tool", 4),
    Case("work.locked", 4),
)


def test_short_form_has_points_of_the_long_one() -> None:
    assert set(SHORT) < set(cases())


@pytest.mark.timeout(300)
async def test_turn_goes_on_at_the_other_replica_wherever_the_first_one_dies(
    new_database: NewDatabase, peers: Peers, tmp_path: Path
) -> None:
    database = await new_database("agent", "skills")
    async with two_replicas(database, peers, tmp_path) as world:
        for case in SHORT:
            await world.survive(case)
