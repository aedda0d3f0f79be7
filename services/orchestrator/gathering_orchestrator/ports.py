"""What the verbs need of the world: the other services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gathering_mesh.call import Call
from gathering_orchestrator.circles.models import Agent
from gathering_orchestrator.tasks.models import Artifact, Caps, Json, TurnEnd
from gathering_orchestrator.tasks.models_states import TurnOutcome


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent says to an offer; `reason` and `message` when it declines."""

    accepted: bool
    reason: str = ""
    message: str = ""


class Agents(Protocol):
    """Who the agents are and what they say to offers."""

    async def get(self, call: Call, agent_id: str) -> Agent:
        """Return an agent; NotFound."""

    async def consider(
        self,
        call: Call,
        *,
        agent_id: str,
        task_id: str,
        title: str,
        required_competences: Sequence[str],
        open_task_ids: Sequence[str],
    ) -> Answer:
        """Ask an agent whether it takes a task; NotFound."""


class AgentTurns(Protocol):
    """Sessions and turns of agents. A repeated request id gives the first result."""

    async def open_session(
        self, call: Call, *, request_id: str, agent_id: str, title: str, workspace_id: str
    ) -> str:
        """Create a session and return its id; NotFound, FailedPrecondition (archived)."""

    async def start(
        self,
        call: Call,
        *,
        request_id: str,
        session_id: str,
        task_id: str,
        text: str,
        max_tool_calls: int,
        result_schema: Json,
    ) -> str:
        """Start a turn and return its id."""

    async def read(self, call: Call, turn_id: str) -> tuple[TurnOutcome | None, TurnEnd]:
        """Return how a turn ended (None: it goes on) and what came of it."""

    async def cancel(self, call: Call, turn_id: str) -> None:
        """Cancel a turn that has not ended."""

    async def newest(self, call: Call, session_id: str) -> str:
        """Return the id of the newest turn of a session, empty if it has none."""


class Budgets(Protocol):
    """What the models of tasks may use."""

    async def set(self, call: Call, task_id: str, caps: Caps, parent_task_id: str) -> None:
        """Bound a task, which draws on its parent's budget as well, if it has a parent."""


class Workspaces(Protocol):
    """What was done in workspaces."""

    async def check(self, call: Call, workspace_id: str) -> None:
        """Raise NotFound unless the caller may use the workspace."""

    async def sha256(self, call: Call, workspace_id: str, path: str) -> str | None:
        """Return the hash of a file as it is now, None if it cannot be read."""

    async def artifacts(self, call: Call, task_id: str, agent_id: str) -> tuple[Artifact, ...]:
        """Return the files that an agent wrote for a task, each as written last, by path."""


class Memory(Protocol):
    """Who the memory service thinks belongs to a circle."""

    async def set_members(
        self,
        call: Call,
        *,
        circle_id: str,
        version: int,
        agent_ids: Sequence[str],
        user_ids: Sequence[str],
    ) -> None:
        """Replace the members of a circle's scope; an older version than the known is no error."""


class Permits(Protocol):
    """Acting for a user after the user's token has ended."""

    async def grant(self, call: Call, purpose_id: str) -> str:
        """Have the caller let this service act on; return the delegation's id."""

    async def call(self, tenant: str, delegation_id: str, trace: str = "") -> Call:
        """Return a call as the user of a delegation, within a trace; PermitRevoked."""

    async def revoke(self, call: Call, delegation_id: str) -> None:
        """End a delegation of the caller."""
