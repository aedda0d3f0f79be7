"""The services that the orchestrator calls, as small servers that speak the real contracts.

They check tokens and bounds as the real ones do, keep what they were asked, and answer as a test
wants. Repeats under a request id give the first result; with another body they are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    budget_pb2,
    budget_service_pb2,
    session_pb2,
    turn_pb2,
    turn_service_pb2,
)
from gathering.events.v1 import event_log_service_pb2 as log_pb
from gathering.events.v1 import event_pb2
from gathering.gateway.v1 import auth_pb2, auth_service_pb2
from gathering.memory.v1 import memory_pb2
from gathering.skills.v1 import execution_pb2, execution_service_pb2, workspace_service_pb2
from gathering_mesh.call import Call
from gathering_mesh.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from gathering_mesh.ids import new_id
from gathering_mesh.streams import until_closing
from tests.support.probe import Authority

MEMBER_SCOPES = (
    "memory.read memory.write skills.read skills.execute workspaces.read agents.read agents.write "
    "sessions.read sessions.write circles.read circles.write tasks.read tasks.write events.read "
    "users.self"
)


class Peer:
    """What is not served says so; what a test switches off cannot be reached."""

    def __init__(self) -> None:
        self.down: set[str] = set()  # RPCs that answer UNAVAILABLE
        self.broken: set[str] = set()  # RPCs that answer INTERNAL
        self.lost_answers: set[str] = set()  # RPCs that do their work, once, and lose the answer
        self.calls: Counter[str] = Counter()
        self.on_answer: Callable[[str], None] = _nothing  # told each RPC, its work done
        self._first: dict[tuple[str, str, str, str], tuple[bytes, Message]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not name[0].isupper():
            raise AttributeError(name)

        async def refuse(request: Message, call: Call) -> Message:
            raise Unavailable(f"{name} is not served here")

        async def refuse_stream(request: Message, call: Call) -> AsyncGenerator[Message, None]:
            yield await refuse(request, call)

        return refuse_stream if name.startswith(("Watch", "Stream", "Tail")) else refuse

    async def once(self, call: Call, make: Callable[[], Awaitable[Message] | Message]) -> Any:
        """Do a mutation once per request id."""
        rpc = call.method.rpartition(".")[2]
        self.calls[rpc] += 1
        if rpc in self.down:
            raise Unavailable(f"{rpc} is down")
        if rpc in self.broken:
            raise RuntimeError(f"{rpc} is broken")
        answer = await self._once(call, make)
        self.on_answer(rpc)
        if rpc in self.lost_answers:
            self.lost_answers.discard(rpc)
            # DEADLINE_EXCEEDED is not asked again by the channel itself.
            raise DomainErrorOfTime("the answer was lost")
        return answer

    async def _once(self, call: Call, make: Callable[[], Awaitable[Message] | Message]) -> Any:
        key = call.request_key
        if key is None:
            return await _awaited(make())
        name = (call.tenant, call.user, key.method, key.request_id)
        if name in self._first:
            digest, first = self._first[name]
            if digest != key.digest:
                raise InvalidArgument("another request", reason="REQUEST_ID_REUSED")
            return first
        made = await _awaited(make())
        self._first[name] = (key.digest, made)
        return made


def _nothing(_: str) -> None:
    """Take no notice."""


class DomainErrorOfTime(DomainError):
    """The answer did not come in time."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


async def _awaited(value: Awaitable[Message] | Message) -> Message:
    return value if isinstance(value, Message) else await value


class GatewayPeer(Peer):
    """AuthService: delegations."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        self.delegations: dict[str, tuple[str, str, str]] = {}  # tenant, user, role
        self.purposes: dict[str, str] = {}
        self.revoked: set[str] = set()

    async def CreateDelegation(
        self, request: auth_service_pb2.CreateDelegationRequest, call: Call
    ) -> auth_pb2.Delegation:
        def make() -> auth_pb2.Delegation:
            made = auth_pb2.Delegation(delegation_id=new_id("dlg"))
            who = (call.tenant, call.user, call.principal.role)
            self.delegations[made.delegation_id] = who
            self.purposes[made.delegation_id] = request.purpose_id
            return made

        made: auth_pb2.Delegation = await self.once(call, make)
        return made

    async def ExchangeDelegation(
        self, request: auth_service_pb2.ExchangeDelegationRequest, call: Call
    ) -> auth_service_pb2.ExchangeDelegationResponse:
        self.calls["ExchangeDelegation"] += 1
        found = self.delegations.get(request.delegation_id)
        if found is None or found[0] != request.tenant_id:
            raise NotFound("no such delegation")
        if request.delegation_id in self.revoked:
            raise Unauthenticated("revoked", reason="CREDENTIALS_REVOKED")
        tenant, user, role = found
        token = self._authority.user(
            MEMBER_SCOPES, tenant=tenant, sub=user, role=role, dlg=request.delegation_id
        )
        return auth_service_pb2.ExchangeDelegationResponse(access_token=token)

    async def RevokeDelegation(
        self, request: auth_service_pb2.RevokeDelegationRequest, call: Call
    ) -> auth_pb2.Delegation:
        self.revoked.add(request.delegation_id)
        return auth_pb2.Delegation(delegation_id=request.delegation_id)


class MemoryPeer(Peer):
    """MembershipService."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: dict[tuple[str, str], memory_pb2.ScopeMembers] = {}

    async def SetScopeMembers(self, request: Any, call: Call) -> memory_pb2.ScopeMembers:
        def make() -> memory_pb2.ScopeMembers:
            told = request.members
            name = (call.tenant, told.scope.id)
            known = self.scopes.get(name)
            if known is None or told.version > known.version:
                self.scopes[name] = told
            return self.scopes[name]

        members: memory_pb2.ScopeMembers = await self.once(call, make)
        return members


class SkillsPeer(Peer):
    """WorkspaceService and ExecutionService: files by path, and who wrote them."""

    def __init__(self) -> None:
        super().__init__()
        self.workspaces: dict[str, str] = {}  # id to tenant
        self.files: dict[tuple[str, str], bytes] = {}
        self.executions: list[execution_pb2.Execution] = []

    def workspace(self, tenant: str) -> str:
        """Return a new workspace of a tenant."""
        workspace_id = new_id("wsp")
        self.workspaces[workspace_id] = tenant
        return workspace_id

    def write(self, workspace_id: str, path: str, content: bytes, **of: Any) -> None:
        """Write a file as a tool does: `turn_id`, `task_id`, `agent_id` say for whom."""
        self.files[workspace_id, path] = content
        artifact = execution_pb2.Artifact(
            path=path, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
        )
        self.executions.append(
            execution_pb2.Execution(
                execution_id=new_id("exe"), workspace_id=workspace_id, artifacts=[artifact],
                state=execution_pb2.EXECUTION_STATE_DONE, **of,
            )
        )  # fmt: skip

    async def GetWorkspace(self, request: Any, call: Call) -> workspace_service_pb2.Workspace:
        if self.workspaces.get(request.workspace_id) != call.tenant:
            raise NotFound("no such workspace")
        return workspace_service_pb2.Workspace(workspace_id=request.workspace_id)

    async def ReadFile(self, request: Any, call: Call) -> workspace_service_pb2.ReadFileResponse:
        self.on_answer("ReadFile")
        content = self.files.get((request.workspace_id, request.path))
        if content is None:
            raise NotFound("no such file")
        return workspace_service_pb2.ReadFileResponse(
            content=content[: request.limit_bytes or None], size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )  # fmt: skip

    async def ListExecutions(
        self, request: Any, call: Call
    ) -> execution_service_pb2.ListExecutionsResponse:
        self.on_answer("ListExecutions")
        found = [
            one
            for one in reversed(self.executions)
            if one.task_id == request.task_id and one.agent_id == request.agent_id
        ]
        start = int(request.page_token or 0)
        page = found[start : start + 2]  # small pages, so that paging is seen
        more = str(start + 2) if found[start + 2 :] else ""
        return execution_service_pb2.ListExecutionsResponse(executions=page, next_page_token=more)


@dataclass
class TurnAsked:
    """A turn as the agent service keeps it."""

    turn: turn_pb2.Turn
    tenant: str
    request_id: str
    text: str
    workspace_id: str
    is_review: bool
    started_at: float = field(default_factory=time.monotonic)


Script = Callable[["AgentPeer", TurnAsked], Coroutine[Any, Any, None]]


class AgentPeer(Peer):
    """AgentService, SessionService, TurnService and their event log.

    `script` runs each new turn and ends it by `complete` or `fail`, or leaves it running.
    """

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.agents: dict[str, tuple[str, agent_pb2.Agent]] = {}
        self.considered: list[agent_service_pb2.ConsiderOfferRequest] = []
        self.sessions: dict[str, session_pb2.Session] = {}
        self.budgets: list[budget_service_pb2.SetBudgetRequest] = []
        self.turns: dict[str, TurnAsked] = {}
        self.requests: Counter[str] = Counter()  # StartTurn by request id, repeats included
        self._log: list[log_pb.LogEntry] = []
        self._grown = asyncio.Event()
        self._versions: defaultdict[str, int] = defaultdict(int)
        self._running: set[asyncio.Task[None]] = set()

    # Agents

    def agent(self, tenant: str, name: str, limit: int = 1, **competences: float) -> str:
        """Return a new agent with its limit of tasks and its competences."""
        agent = agent_pb2.Agent(
            agent_id=new_id("agt"), name=name, max_concurrent_tasks=limit,
            state=agent_pb2.AGENT_STATE_ACTIVE,
            competences=[agent_pb2.Competence(name=n, strength=s) for n, s in competences.items()],
        )  # fmt: skip
        agent.update_time.GetCurrentTime()
        self.agents[agent.agent_id] = (tenant, agent)
        return agent.agent_id

    def change(self, agent_id: str, **changes: Any) -> None:
        """Change an agent and say so in the log."""
        tenant, agent = self.agents[agent_id]
        for name, value in changes.items():
            setattr(agent, name, value)
        agent.update_time.GetCurrentTime()
        if agent.state == agent_pb2.AGENT_STATE_ARCHIVED:
            self._append(tenant, agent_id, "agent_archived", agent_id=agent_id)
        else:
            self._append(tenant, agent_id, "agent_updated", agent_id=agent_id)

    async def GetAgent(self, request: Any, call: Call) -> agent_pb2.Agent:
        self.calls["GetAgent"] += 1
        if "GetAgent" in self.down:
            raise Unavailable("GetAgent is down")
        tenant, agent = self.agents.get(request.agent_id, ("", None))
        if agent is None or tenant != call.tenant:
            raise NotFound(f"no agent {request.agent_id}")
        return agent

    async def ConsiderOffer(
        self, request: agent_service_pb2.ConsiderOfferRequest, call: Call
    ) -> agent_service_pb2.ConsiderOfferResponse:
        self.on_answer("ConsiderOffer")
        agent = await self.GetAgent(request, call)
        if "ConsiderOffer" in self.down:
            raise Unavailable("ConsiderOffer is down")
        self.considered.append(request)
        if agent.state == agent_pb2.AGENT_STATE_ARCHIVED:
            return _no("archived", "I am archived")
        if len(request.open_task_ids) >= agent.max_concurrent_tasks:
            return _no("at_capacity", "I am busy")
        return agent_service_pb2.ConsiderOfferResponse(accepted=True)

    # Budgets

    async def SetBudget(
        self, request: budget_service_pb2.SetBudgetRequest, call: Call
    ) -> budget_pb2.Budget:
        def make() -> budget_pb2.Budget:
            self.budgets.append(request)
            return budget_pb2.Budget(level=request.level, subject_id=request.subject_id)

        budget: budget_pb2.Budget = await self.once(call, make)
        return budget

    # Sessions and turns

    async def CreateSession(self, request: Any, call: Call) -> session_pb2.Session:
        def make() -> session_pb2.Session:
            _, agent = self.agents[request.agent_id]
            if agent.state == agent_pb2.AGENT_STATE_ARCHIVED:
                raise FailedPrecondition("the agent is archived")
            session = session_pb2.Session(
                session_id=new_id("ses"), agent_id=request.agent_id, owner_user_id=call.user,
                workspace_id=request.workspace_id, title=request.title,
            )  # fmt: skip
            self.sessions[session.session_id] = session
            return session

        session: session_pb2.Session = await self.once(call, make)
        return session

    async def StartTurn(
        self, request: turn_service_pb2.StartTurnRequest, call: Call
    ) -> turn_pb2.Turn:
        self.requests[request.request_id] += 1
        turn: turn_pb2.Turn = await self.once(call, lambda: self._start(request, call))
        return turn

    def _start(self, request: turn_service_pb2.StartTurnRequest, call: Call) -> turn_pb2.Turn:
        session = self.sessions[request.session_id]
        if any(
            one.turn.session_id == session.session_id
            and one.turn.state == turn_pb2.TURN_STATE_RUNNING
            for one in self.turns.values()
        ):
            raise FailedPrecondition("another turn runs", reason="SESSION_BUSY")
        turn = turn_pb2.Turn(
            turn_id=new_id("trn"), session_id=session.session_id, agent_id=session.agent_id,
            task_id=request.task_id, state=turn_pb2.TURN_STATE_RUNNING,
        )  # fmt: skip
        schema = MessageToDict(request.result_schema)
        asked = TurnAsked(
            turn, call.tenant, request.request_id, request.text, session.workspace_id,
            "verdict" in schema.get("properties", {}),
        )  # fmt: skip
        self.turns[turn.turn_id] = asked
        task = asyncio.create_task(self.script(self, asked))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return turn

    async def GetTurn(self, request: Any, call: Call) -> turn_pb2.Turn:
        self.on_answer("GetTurn")
        self.calls["GetTurn"] += 1
        asked = self.turns.get(request.turn_id)
        if asked is None or asked.tenant != call.tenant:
            raise NotFound("no such turn")
        return asked.turn

    async def ListTurns(self, request: Any, call: Call) -> turn_service_pb2.ListTurnsResponse:
        found = [
            one.turn
            for one in self.turns.values()
            if one.turn.session_id == request.session_id and one.tenant == call.tenant
        ]
        return turn_service_pb2.ListTurnsResponse(turns=found[::-1][: request.page_size or 50])

    async def CancelTurn(self, request: Any, call: Call) -> turn_pb2.Turn:
        self.calls["CancelTurn"] += 1
        asked = self.turns[request.turn_id]
        if asked.turn.state == turn_pb2.TURN_STATE_RUNNING:
            asked.turn.state = turn_pb2.TURN_STATE_CANCELLED
            self._ended(asked, "turn_cancelled")
        return asked.turn

    def complete(self, asked: TurnAsked, result: dict[str, Any] | None, text: str = "") -> None:
        """End a turn well, with what was submitted."""
        if asked.turn.state != turn_pb2.TURN_STATE_RUNNING:
            return
        asked.turn.state = turn_pb2.TURN_STATE_COMPLETED
        asked.turn.stop_reason = turn_pb2.STOP_REASON_END
        asked.turn.text = text
        if result is not None:
            asked.turn.result.update(result)
        self._ended(asked, "turn_completed", stop_reason="end")

    def fail(self, asked: TurnAsked, reason: str = "MODEL_FAILED") -> None:
        """End a turn badly."""
        asked.turn.state = turn_pb2.TURN_STATE_FAILED
        asked.turn.error_reason = reason
        self._ended(asked, "turn_failed", reason=reason)

    def _ended(self, asked: TurnAsked, kind: str, **fields: str) -> None:
        turn = asked.turn
        self._append(
            asked.tenant, turn.turn_id, kind, turn_id=turn.turn_id, session_id=turn.session_id,
            agent_id=turn.agent_id, task_id=turn.task_id, **fields,
        )  # fmt: skip

    # The log

    def _append(self, tenant: str, aggregate_id: str, kind: str, **fields: str) -> None:
        self._versions[aggregate_id] += 1
        event = event_pb2.Event(
            id=new_id("evt"), source="agent", epoch="1", position=len(self._log) + 1, type=kind,
            aggregate_id=aggregate_id, version=self._versions[aggregate_id],
        )  # fmt: skip
        payload = getattr(event, kind)
        payload.SetInParent()
        for name, value in fields.items():
            setattr(payload, name, value)
        self._log.append(log_pb.LogEntry(tenant_id=tenant, event=event))
        self._grown.set()

    async def Tail(
        self, request: log_pb.TailRequest, call: Call
    ) -> AsyncGenerator[log_pb.TailResponse, None]:
        async for frame in until_closing(call, self._frames(request)):
            yield frame

    async def _frames(
        self, request: log_pb.TailRequest
    ) -> AsyncGenerator[log_pb.TailResponse, None]:
        at = request.after.position
        while True:
            self._grown.clear()
            for entry in self._log[at:]:
                at += 1
                if not request.types or entry.event.type in request.types:
                    yield log_pb.TailResponse(entry=entry)
            head = log_pb.LogPosition(epoch="1", position=at)
            yield log_pb.TailResponse(head=log_pb.LogHead(position=head))
            if len(self._log) == at:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._grown.wait(), 1.0)


def _no(reason: str, message: str) -> agent_service_pb2.ConsiderOfferResponse:
    return agent_service_pb2.ConsiderOfferResponse(reason=reason, message=message)
