"""Kill -9 of the orchestrator, again and again, under tasks of several rounds."""

from __future__ import annotations

import pytest

from tests.integration.orchestrator.conftest import agents, idle
from tests.integration.orchestrator.scripts import Agents
from tests.integration.orchestrator.test_orchestrator_killed import survive
from tests.integration.orchestrator.world import World

__all__ = ["agents", "idle"]  # fixtures of the integration tests
_ROUNDS = 5
_MOMENTS = ("CreateSession", "StartTurn", "StartTurn", "ConsiderOffer", "GetTurn", "ListExecutions",
            "ReadFile")  # fmt: skip


@pytest.mark.timeout(900)
async def test_tasks_survive_dozens_of_kills(
    idle: World,
    agents: Agents,
) -> None:
    await survive(idle, agents, _MOMENTS * _ROUNDS, 4 * _ROUNDS)
