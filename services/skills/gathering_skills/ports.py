"""What the verbs need from outside: rows, and a process that looks at sources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from gathering_mesh.postgres import Transaction
from gathering_skills.models import (
    Approval,
    Decision,
    Ending,
    Execution,
    ExecutionFilter,
    ExecutionState,
    Grant,
    JsonObject,
    WorkspaceRecord,
)
from gathering_skills.models_outputs import Piece

Tell = Callable[[str], Awaitable[None]]


class Inspector(Protocol):
    """Looks at what others wrote, in a process that can be killed."""

    async def inspect(
        self,
        descriptor: int,
        job: str,
        arguments: Mapping[str, Any],
        seconds: float,
        tell: Tell | None = None,
    ) -> JsonObject:
        """Do a job in the directory of a descriptor; ToolError when it fails or takes longer.

        `tell` hears what it finds, as it finds it.
        """


class ExecutionRows(Protocol):
    """The executions of the transaction's tenant."""

    async def insert(self, tx: Transaction, execution: Execution, digest: bytes) -> bool:
        """Add an execution; False if its principal has one with this request id."""

    async def by_request(
        self, tx: Transaction, principal: str, request_id: str
    ) -> tuple[Execution, bytes] | None:
        """Return the execution that a caller named so, and the digest of its order."""

    async def get(self, tx: Transaction, execution_id: str, *, lock: bool = False) -> Execution:
        """Return an execution, locked until the end of the transaction if asked; NotFound."""

    async def page(
        self, tx: Transaction, which: ExecutionFilter, *, before: str, limit: int
    ) -> list[Execution]:
        """Return executions without output, newest first, with ids below `before` (empty: all)."""

    async def write(
        self,
        tx: Transaction,
        execution: Execution,
        to: ExecutionState,
        ending: Ending | None = None,
        decision: Decision | None = None,
    ) -> Execution | None:
        """Move an execution from the state that it has here to another; None if it has left it.

        With a decision: in time, and about this question; else None as well.
        """

    async def question(self, tx: Transaction, digest: str, open_for: timedelta) -> Approval:
        """Return a question that is open from now on, in the database's time."""

    async def is_open(self, tx: Transaction, execution: Execution) -> bool:
        """Tell whether a question can still be answered, in the database's time."""


class ExecutionUpkeep(Protocol):
    """What is asked of executions beside their life."""

    async def live_count(self, tx: Transaction, limit: int) -> int:
        """Return how many have not ended, counting no further than the limit."""

    async def lock_count(self, tx: Transaction) -> None:
        """Let no other transaction of the tenant count until this one ends."""

    async def ask_to_cancel(self, tx: Transaction, execution_id: str) -> None:
        """Remember that a running execution is to be cancelled."""

    async def is_cancel_requested(self, tx: Transaction, execution_id: str) -> bool:
        """Tell whether somebody asked for it."""

    async def purge(self, tx: Transaction, days: int, limit: int) -> int:
        """Delete executions that ended so many days ago; return how many."""


class OutputRows(Protocol):
    """What tools told, of the executions of the transaction's tenant; it goes with them."""

    async def append(
        self, tx: Transaction, execution_id: str, attempt: int, pieces: Sequence[Piece]
    ) -> None:
        """Add pieces of an attempt; those that are there already are left."""

    async def drop(self, tx: Transaction, execution_id: str) -> None:
        """Delete all that was told of an execution."""

    async def read(
        self, tx: Transaction, execution_id: str, attempt: int, offset: int, limit: int
    ) -> bytes:
        """Return so many bytes of what an attempt told, from an offset on."""

    async def size(self, tx: Transaction, execution_id: str, attempt: int) -> tuple[int, bool]:
        """Return how many bytes an attempt told by now, and whether there was more."""


class GrantRows(Protocol):
    """The grants of the transaction's tenant."""

    async def insert(self, tx: Transaction, grant: Grant) -> None:
        """Add a grant."""

    async def get(self, tx: Transaction, grant_id: str) -> Grant:
        """Return a grant; NotFound."""

    async def of_agent(self, tx: Transaction, agent_id: str) -> Sequence[Grant]:
        """Return the grants of an agent that are in force."""

    async def revoke(
        self, tx: Transaction, agent_id: str, skill: str, *, only: str = ""
    ) -> Grant | None:
        """End the grant of a skill that is in force, if it has the id `only`; return it."""

    async def page(
        self, tx: Transaction, agent_id: str, *, after: tuple[str, str], limit: int
    ) -> list[Grant]:
        """Return grants in force by agent and skill, above a pair of them."""


class WorkspaceRows(Protocol):
    """The workspaces of the transaction's tenant."""

    async def claim(self, tx: Transaction, record: WorkspaceRecord, *, shared: bool) -> str:
        """Add a workspace; return the id of the one with its path, old or new.

        Raises WorkspaceRootRefused where another tenant has the directory, one within it or one
        around it, unless `shared`.
        """

    async def get(self, tx: Transaction, workspace_id: str) -> WorkspaceRecord:
        """Return a workspace; NotFound."""

    async def page(self, tx: Transaction, *, before: str, limit: int) -> list[WorkspaceRecord]:
        """Return workspaces, newest first, with ids below `before` (empty: all)."""
