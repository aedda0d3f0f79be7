"""Reactions to the agent service: turns that end, agents that change."""

from __future__ import annotations

from gathering.events.v1 import event_pb2
from gathering_mesh.postgres import Transaction
from gathering_orchestrator.circles.members import Members
from gathering_orchestrator.tasks.models_states import TurnOutcome
from gathering_orchestrator.tasks.turns import Turns

_OUTCOMES = {
    "turn_completed": TurnOutcome.COMPLETED,
    "turn_failed": TurnOutcome.FAILED,
    "turn_cancelled": TurnOutcome.CANCELLED,
}
_CHANGES = frozenset({"agent_updated", "agent_archived"})
TYPES = {*_OUTCOMES, *_CHANGES}


def concerns(event: event_pb2.Event) -> bool:
    """Tell whether there may be something to do: turns of no task are none of ours."""
    return event.type in _CHANGES or bool(getattr(event, event.type).task_id)


class AgentReactions:
    """The handler of the durable consumer of the agent service's log."""

    def __init__(self, turns: Turns, members: Members) -> None:
        self._turns = turns
        self._members = members

    async def handle(self, tx: Transaction, event: event_pb2.Event) -> None:
        """React to one event; what follows from it is work."""
        if event.type in _CHANGES:
            agent_id = getattr(event, event.type).agent_id
            await self._members.heard_of(tx, agent_id, event.position)
        elif event.type in _OUTCOMES:
            turn = getattr(event, event.type)
            if turn.task_id:
                await self._turns.heard_of(
                    tx,
                    task_id=turn.task_id,
                    session_id=turn.session_id,
                    turn_id=turn.turn_id,
                    outcome=_OUTCOMES[event.type],
                    reason=turn.reason if event.type == "turn_failed" else "",
                )
