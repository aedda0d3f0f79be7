"""How the agents of a test behave in their turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gathering.agent.v1 import turn_pb2
from tests.integration.orchestrator.peers import AgentPeer, SkillsPeer, TurnAsked
from tests.support.waiting import eventually

CRITERIA = ("Names files", "Names lines")


def verdict(
    name: str = "approved", unmet: Sequence[str] = (), comment: str = "seen"
) -> dict[str, Any]:
    """Return a review's result in which these criteria are not met."""
    return {
        "verdict": name,
        "comment": comment,
        "criteria": [
            {"criterion": one, "met": one not in unmet, "evidence": f"line 1 of {one}"}
            for one in CRITERIA
        ],
    }


@dataclass
class Agents:
    """Authors write REVIEW.md and submit; reviewers submit what is queued, else approve.

    A queued None leaves the turn running, an exception fails it. `pause` is in seconds. A turn
    whose request is in `unheard` goes on when it is asked for again: its first answer was lost.
    """

    skills: SkillsPeer | None = None
    work: deque[Any] = field(default_factory=deque)
    reviews: deque[Any] = field(default_factory=deque)
    pause: float = 0.0
    unheard: set[str] = field(default_factory=set)
    held: list[TurnAsked] = field(default_factory=list)

    async def __call__(self, peer: AgentPeer, asked: TurnAsked) -> None:
        """Run a turn."""
        await asyncio.sleep(self.pause)
        if asked.request_id in self.unheard:
            await eventually(lambda: _asked_again(peer, asked), "asked for again", seconds=120)
        queue, usual = (self.reviews, self._review) if asked.is_review else (self.work, self._work)
        result = queue.popleft() if queue else usual(asked)
        if result is None:
            self.held.append(asked)
        elif isinstance(result, Exception):
            peer.fail(asked, str(result))
        else:
            peer.complete(asked, result)

    def _work(self, asked: TurnAsked) -> dict[str, Any]:
        turn: turn_pb2.Turn = asked.turn
        if self.skills is not None and asked.workspace_id:
            self.skills.write(
                asked.workspace_id, "REVIEW.md", asked.request_id.encode(),
                turn_id=turn.turn_id, task_id=turn.task_id, agent_id=turn.agent_id,
            )  # fmt: skip
        return {"summary": f"did {asked.request_id}", "artifacts": ["REVIEW.md"]}

    def _review(self, asked: TurnAsked) -> dict[str, Any]:
        return verdict()


async def _asked_again(peer: AgentPeer, asked: TurnAsked) -> bool:
    return peer.requests[asked.request_id] > 1
