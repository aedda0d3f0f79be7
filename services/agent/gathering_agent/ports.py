"""What the verbs need from outside: rows, models, memories, tools, delegations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gathering_agent.agents.models import Agent, AgentFields, AgentVersion
from gathering_agent.budgets.ports import AttemptRows, BudgetRows, UsageRows
from gathering_agent.context.models import Project, Report
from gathering_agent.context.ports import DigestRows, FindingRows, HistoryRows
from gathering_agent.models import Message, Recalled, Right, Session, ToolCall, ToolResult, Turn
from gathering_agent.providers.models_dialogue import ModelEvent, ModelRequest, ToolSpec
from gathering_agent.remembering.models import KnownMemory
from gathering_agent.sessions.models import SessionFilter
from gathering_agent.sessions.models_images import Image
from gathering_agent.streams.models import Activity, Output, Piece
from gathering_mesh.call import Call
from gathering_mesh.postgres import Transaction


class AgentRows(Protocol):
    """The agents of the transaction's tenant."""

    async def insert(self, tx: Transaction, agent: Agent) -> None:
        """Add an agent."""

    async def get(self, tx: Transaction, agent_id: str, *, lock: bool = False) -> Agent:
        """Return an agent, locked until the end of the transaction if asked; AgentNotFound."""

    async def page(
        self, tx: Transaction, *, archived: bool, before: str, limit: int
    ) -> list[Agent]:
        """Return agents, newest first, with ids below `before` (empty: all)."""

    async def update(self, tx: Transaction, agent: Agent) -> None:
        """Write what may change: the fields, state, version and time."""


class VersionRows(Protocol):
    """The definitions of the transaction's tenant's agents, as they were."""

    async def insert(self, tx: Transaction, version: AgentVersion) -> None:
        """Add a version."""

    async def get(self, tx: Transaction, agent_id: str, version: int) -> AgentVersion:
        """Return a version; AgentVersionNotFound."""

    async def fields(self, tx: Transaction, agent_id: str, version: int) -> AgentFields:
        """Return the definition of a version; AgentVersionNotFound."""

    async def page(
        self, tx: Transaction, agent_id: str, *, before: int, limit: int
    ) -> list[AgentVersion]:
        """Return versions below `before` (0: all) without definitions, newest first."""


class SessionRows(Protocol):
    """The sessions of the transaction's tenant."""

    async def insert(self, tx: Transaction, session: Session) -> None:
        """Add a session."""

    async def get(
        self, tx: Transaction, session_id: str, *, lock: bool = False, deleted: bool = False
    ) -> Session:
        """Return a session, locked until the end of the transaction if asked; SessionNotFound.

        `deleted`: also what is left of one that was deleted.
        """

    async def page(
        self, tx: Transaction, which: SessionFilter, *, before: str, limit: int
    ) -> list[tuple[Session, bool]]:
        """Return sessions, newest first, with ids below `before` (empty: all).

        Each with whether it holds the text that is looked for.
        """

    async def update(self, tx: Transaction, session: Session) -> None:
        """Write what may change: title, strategy and version."""


class RightRows(Protocol):
    """Delegations to work for the owners of sessions."""

    async def get(self, tx: Transaction, session_id: str, root: str) -> Right:
        """Return a session's right, without a delegation where there is none."""

    async def keep(self, tx: Transaction, right: Right) -> None:
        """Remember a right."""

    async def drop(self, tx: Transaction, right: Right) -> None:
        """Forget a right that has ended, so that the next one has a name of its own."""


class MessageRows(Protocol):
    """The messages of the transaction's tenant."""

    async def append(
        self, tx: Transaction, message: Message, report: Report | None = None
    ) -> Message:
        """Add a message as the next of its session; return it with its sequence and time.

        `report`: what went into the prompt that it answers.
        """

    async def page(
        self, tx: Transaction, session_id: str, *, after: int, limit: int
    ) -> list[Message]:
        """Return messages of a session above a sequence, oldest first."""

    async def latest(
        self, tx: Transaction, session_id: str, *, limit: int, after: int = 0, before: int = 2**62
    ) -> list[Message]:
        """Return the last messages of a session between two sequences, oldest first."""

    async def image(self, tx: Transaction, session_id: str, message_id: str, place: int) -> Image:
        """Return an image of a message with its data; MessageNotFound, ImageNotFound."""

    async def of_turn(self, tx: Transaction, turn_id: str, *, after: int = 0) -> list[Message]:
        """Return the messages of a turn above a sequence, oldest first."""

    def forget(self, tenant: str, session_id: str) -> None:
        """Keep nothing of a session in memory."""


@dataclass(frozen=True, slots=True)
class TurnFilter:
    """Which turns to list; empty: all."""

    owner: str = ""
    session_id: str = ""
    task_id: str = ""
    agent_id: str = ""


class TurnRows(Protocol):
    """The turns of the transaction's tenant."""

    async def insert(self, tx: Transaction, turn: Turn) -> None:
        """Add a turn; SessionBusy where another of the session lives."""

    async def get(
        self, tx: Transaction, turn_id: str, *, lock: bool = False, deleted: bool = False
    ) -> Turn:
        """Return a turn, locked until the end of the transaction if asked; TurnNotFound.

        `deleted`: also what is left of one whose session was deleted.
        """

    async def page(
        self, tx: Transaction, which: TurnFilter, *, before: str, limit: int
    ) -> list[Turn]:
        """Return turns, newest first, with ids below `before` (empty: all)."""

    async def hold(self, tx: Transaction, turn_id: str) -> None:
        """Lock a turn's row for what will be counted there."""

    async def live(self, tx: Transaction, session_id: str) -> str:
        """Return the turn of a session that lives and does not wait, empty if there is none."""

    async def update(self, tx: Transaction, turn: Turn) -> bool:
        """Write what changes while a turn lives; tell whether it ended and others wait for that."""


class QueueRows(Protocol):
    """The turns that wait for their session, and what was said with them."""

    async def hold(self, tx: Transaction, session_id: str) -> None:
        """Lock a session's row: nobody else begins or ends its turns."""

    async def waiting(self, tx: Transaction, session_id: str) -> Sequence[tuple[str, int]]:
        """Return the turns of a session that wait, with their places, in their order."""

    async def keep(self, tx: Transaction, request: Message) -> None:
        """Add what was said with a turn that waits, as no part of the conversation yet."""

    async def place(self, tx: Transaction, turn_id: str) -> None:
        """Make it the next message of the session, which is locked."""

    async def drop(self, tx: Transaction, turn_id: str) -> None:
        """Forget what was said with a turn that never begins."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All that is kept."""

    agents: AgentRows
    sessions: SessionRows
    messages: MessageRows
    turns: TurnRows
    rights: RightRows
    attempts: AttemptRows
    versions: VersionRows
    budgets: BudgetRows
    usage: UsageRows
    histories: HistoryRows
    queue: QueueRows
    findings: FindingRows
    digests: DigestRows


class ModelProvider(Protocol):
    """Speaks with one provider of models."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield text deltas and, last, one Answer.

        Raises ModelFailed (worth another attempt; also for a stream that was cut), ModelRefused,
        ModelNotConfigured. One attempt: no retries inside. Cancelling closes the connection.
        """

    async def aclose(self) -> None:
        """Release connections."""


@dataclass(frozen=True, slots=True)
class Work:
    """On what behalf a turn works: where its tools run and how its executions are marked."""

    call: Call
    agent_id: str
    session_id: str
    turn_id: str
    task_id: str
    workspace_id: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something to remember.

    `scope` is `private`, `personal`, `circle`, `project` or `tenant`.
    """

    request_id: str
    text: str
    scope: str
    scope_id: str
    kind: str
    importance: float | None
    tags: tuple[str, ...]
    supersedes: str = ""  # the memory whose place it takes
    source: str = ""  # where it comes from, in words


class Memories(Protocol):
    """The memory service."""

    async def recall(self, work: Work, query: str, limit: int) -> Sequence[Recalled]:
        """Return what the agent knows that fits, best first."""

    async def like(self, work: Work, text: str, limit: int) -> Sequence[KnownMemory]:
        """Return what the agent knows by itself, and of the user, that is most like a text."""

    async def remember(self, work: Work, note: Note) -> str:
        """Store a note once per request id; return the memory's id."""


@dataclass(frozen=True, slots=True)
class GrantedTool:
    """A tool of the skills service that an agent may use; `timeout` in seconds.

    `tells`: while it runs it tells what it finds.
    """

    spec: ToolSpec
    needs_workspace: bool
    timeout: float
    tells: bool = False


class Skills(Protocol):
    """The skills service."""

    async def granted(self, work: Work) -> Sequence[GrantedTool]:
        """Return the tools that the agent may use, by name."""

    async def project(self, work: Work) -> Project:
        """Return what the workspace is the home of."""

    async def execute(
        self, work: Work, call: ToolCall, tool: GrantedTool, hear: Callable[[Output], None]
    ) -> ToolResult:
        """Run a tool to its end, named by the call's id; a failure is a result.

        `hear` hears what it tells as it runs, if that can be had. Raises Unavailable when the
        service cannot be reached; then the same call may be made again.
        """

    async def cancel_all(self, work: Work) -> int:
        """Cancel the turn's executions that have not ended; return how many there were."""


class Authority(Protocol):
    """The right to work for users when their tokens have ended."""

    async def delegate(self, call: Call, purpose_id: str, name: str) -> str:
        """Return the delegation that the caller gives for this purpose; once per name."""

    async def call(self, tenant: str, delegation_id: str, trace: str) -> Call:
        """Return a call on behalf of the user who gave the delegation."""


@dataclass(frozen=True, slots=True)
class Received:
    """What was at a position in the stream of a turn: text, or what a tool is doing or tells.

    Neither: nothing that can be read.
    """

    turn_id: str
    position: str
    piece: Piece | None = None
    told: Activity | Output | None = None


class DeltaWire(Protocol):
    """Carries text between replicas, for a while; all raise Unavailable within a bounded time."""

    async def send(
        self, pieces: Sequence[Piece], told: Sequence[tuple[str, Activity | Output]] = ()
    ) -> None:
        """Append pieces, and what tools are doing and tell, to the streams of their turns."""

    async def receive(self, after: Mapping[str, str], seconds: float) -> Sequence[Received]:
        """Wait, at most so long, for pieces of turns behind positions (empty: all that is kept)."""

    async def wake(self) -> None:
        """End the wait of `receive` at once."""

    async def want(self, turn_ids: Collection[str]) -> None:
        """Tell all replicas that these turns are watched here."""

    async def wanted(self, seconds: float) -> Sequence[str]:
        """Wait, at most so long, for what replicas want; of the last seconds at first."""

    async def aclose(self) -> None:
        """Release connections."""
