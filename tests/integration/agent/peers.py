"""The services around the agent service, small, behind the real contract and real tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor import ServiceDescriptor

from gathering.gateway.v1 import auth_pb2, auth_service_pb2
from gathering.memory.v1 import memory_pb2, memory_service_pb2
from gathering.skills.v1 import (
    execution_pb2,
    execution_service_pb2,
    project_context_pb2,
    skill_pb2,
    skill_service_pb2,
    workspace_service_pb2,
)
from gathering_mesh.call import Call
from gathering_mesh.errors import DomainError, InvalidArgument, NotFound, Unauthenticated
from gathering_mesh.ids import new_id
from gathering_mesh.keys import SigningKey
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import ServerSettings
from tests.support.probe import Authority

ALL_SCOPES = (
    "agents.read agents.write sessions.read sessions.write memory.read memory.write "
    "skills.read skills.execute users.self models.admin workspaces.read"
)
_State = execution_pb2.ExecutionState
_ENDED = (
    _State.EXECUTION_STATE_DONE,
    _State.EXECUTION_STATE_FAILED,
    _State.EXECUTION_STATE_CANCELLED,
)


class Issuer(Authority):
    """Issues tokens of users and of the services that call or are called."""

    def __init__(self) -> None:
        super().__init__()
        self.actors = {
            name: SigningKey.generate() for name in ("agent", "orchestrator", "gateway", "skills")
        }


def _only(service: ServiceDescriptor, servicer: object) -> object:
    """Have every RPC of a contract; those that no test needs answer that they are not there."""

    async def unary(request: Any, call: Call) -> Any:
        raise NotFound("not part of these tests")

    async def stream(request: Any, call: Call) -> AsyncIterator[Any]:
        nothing: tuple[Any, ...] = ()
        for one in nothing:
            yield one
        raise NotFound("not part of these tests")

    for method in service.methods:
        if not hasattr(servicer, method.name):
            setattr(servicer, method.name, stream if method.server_streaming else unary)
    return servicer


class Auth:
    """Delegations."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.delegations: dict[str, tuple[str, str, str]] = {}
        self._by_request: dict[str, str] = {}
        self.exchange_count = 0
        self.made_under: dict[str, str] = {}  # delegation to the one whose token made it
        self.revoked: set[str] = set()
        self.lifetime = 900.0  # of the tokens that are given

    async def CreateDelegation(
        self, request: auth_service_pb2.CreateDelegationRequest, call: Call
    ) -> auth_pb2.Delegation:
        """Keep a delegation of the caller, once per request id."""
        if call.principal.actor != "agent":
            raise AssertionError("only services ask for delegations")
        found = self._by_request.setdefault(request.request_id, new_id("dlg"))
        self.made_under[found] = call.principal.delegation or ""
        self.delegations[found] = (call.tenant, call.user, call.principal.role)
        return auth_pb2.Delegation(delegation_id=found, user_id=call.user, actor="agent")

    async def ExchangeDelegation(
        self, request: auth_service_pb2.ExchangeDelegationRequest, call: Call
    ) -> auth_service_pb2.ExchangeDelegationResponse:
        """Give a token of the delegation's user."""
        self.exchange_count += 1
        if self.revoked & {request.delegation_id, self.made_under[request.delegation_id]}:
            raise Unauthenticated("revoked", reason="CREDENTIALS_REVOKED")
        tenant, user, role = self.delegations[request.delegation_id]
        if tenant != request.tenant_id:
            raise NotFound("no such delegation")
        token = self._issuer.user(
            ALL_SCOPES, lifetime=self.lifetime, tenant=tenant, sub=user, role=role
        )
        return auth_service_pb2.ExchangeDelegationResponse(access_token=token)


class Memory:
    """Memories in a list; recall by common words."""

    def __init__(self) -> None:
        self.remembered: dict[str, memory_service_pb2.RememberRequest] = {}
        self.calls: Counter[str] = Counter()
        self.known: list[tuple[str, str]] = []  # tenant, text
        self.faults: list[DomainError] = []  # raised by the next recalls

    async def Remember(
        self, request: memory_service_pb2.RememberRequest, call: Call
    ) -> memory_pb2.Memory:
        """Keep a memory, once per request id."""
        self.calls[request.request_id] += 1
        if request.request_id not in self.remembered:
            self.remembered[request.request_id] = request
            self.known.append((call.tenant, request.text))
        return memory_pb2.Memory(memory_id=new_id("mem"), text=request.text)

    async def Recall(
        self, request: memory_service_pb2.RecallRequest, call: Call
    ) -> memory_service_pb2.RecallResponse:
        """Find memories with a word of the query."""
        if self.faults:
            raise self.faults.pop(0)
        words = set(request.query.lower().split())
        scope = memory_pb2.Scope(kind=memory_pb2.SCOPE_KIND_PRIVATE, id=request.agent_id)
        return memory_service_pb2.RecallResponse(
            hits=[
                memory_service_pb2.RecallHit(
                    memory=memory_pb2.Memory(memory_id=new_id("mem"), text=text, scope=scope),
                    score=0.5,
                )
                for tenant, text in self.known
                if tenant == call.tenant and words & set(text.lower().split())
            ][: request.limit or 10]
        )


Tool = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass
class Skills:
    """Tools that count how often they run; executions found again by their name."""

    tools: dict[str, Tool] = field(default_factory=dict)
    needs_workspace: set[str] = field(default_factory=set)
    tells: set[str] = field(default_factory=set)  # tools that say that they tell what they find
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)  # of arguments, where not any
    project: project_context_pb2.ProjectContext | None = None
    runs: Counter[str] = field(default_factory=Counter)
    executions: dict[str, execution_pb2.Execution] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    faults: list[DomainError] = field(default_factory=list)  # raised by the next listings

    async def GetProjectContext(
        self, request: workspace_service_pb2.GetProjectContextRequest, call: Call
    ) -> project_context_pb2.ProjectContext:
        """Tell of the project of a workspace, if there is one."""
        if self.project is None:
            raise NotFound("no such workspace")
        return self.project

    async def ListGrantedTools(
        self, request: skill_service_pb2.ListGrantedToolsRequest, call: Call
    ) -> skill_service_pb2.ListGrantedToolsResponse:
        """Name all tools."""
        if self.faults:
            raise self.faults.pop(0)
        return skill_service_pb2.ListGrantedToolsResponse(
            tools=[
                skill_pb2.Tool(
                    name=name,
                    description=f"Does {name}.",
                    arguments_schema=json_format.ParseDict(
                        self.schemas.get(name, {"type": "object"}), struct_pb2.Struct()
                    ),
                    needs_workspace=name in self.needs_workspace,
                    timeout_seconds=30,
                    tells_output=name in self.tells,
                )
                for name in sorted(self.tools)
            ]
        )

    async def Execute(
        self, request: execution_service_pb2.ExecuteRequest, call: Call
    ) -> execution_pb2.Execution:
        """Run a tool once per request id and wait for its end, as long as is asked for."""
        key = request.request_id
        if request.tool not in self.tools:
            raise NotFound(f"no tool {request.tool}", reason="TOOL_NOT_FOUND")
        if "bad" in request.arguments:
            raise InvalidArgument(
                "arguments", reason="TOOL_ARGUMENTS_INVALID", fields={"bad": "no"}
            )
        if key not in self.executions:
            self.executions[key] = execution_pb2.Execution(
                execution_id=new_id("exe"), request_id=key, tool=request.tool,
                turn_id=request.turn_id, task_id=request.task_id, agent_id=request.agent_id,
                workspace_id=request.workspace_id, state=_State.EXECUTION_STATE_RUNNING,
            )  # fmt: skip
            arguments = json_format.MessageToDict(request.arguments)
            self.tasks[key] = asyncio.create_task(self._run(key, request.tool, arguments))
        await asyncio.wait({self.tasks[key]}, timeout=request.wait.ToTimedelta().total_seconds())
        return self.executions[key]

    async def _run(self, key: str, tool: str, arguments: dict[str, Any]) -> None:
        self.runs[key] += 1
        execution = self.executions[key]
        try:
            json_format.ParseDict(await self.tools[tool](arguments), execution.output)
            execution.state = _State.EXECUTION_STATE_DONE
        except ToolFault as error:
            execution.state = _State.EXECUTION_STATE_FAILED
            execution.error_reason = "TOOL_FAILED"
            execution.error_message = str(error)
        except asyncio.CancelledError:
            execution.state = _State.EXECUTION_STATE_CANCELLED

    async def ListExecutions(
        self, request: execution_service_pb2.ListExecutionsRequest, call: Call
    ) -> execution_service_pb2.ListExecutionsResponse:
        """Name the executions of a turn."""
        return execution_service_pb2.ListExecutionsResponse(
            executions=[e for e in self.executions.values() if e.turn_id == request.turn_id]
        )

    async def CancelExecution(
        self, request: execution_service_pb2.CancelExecutionRequest, call: Call
    ) -> execution_pb2.Execution:
        """Cancel an execution."""
        key = next(k for k, e in self.executions.items() if e.execution_id == request.execution_id)
        self.cancelled.append(key)
        self.tasks[key].cancel()
        return self.executions[key]


class ToolFault(Exception):
    """Raised by a tool that fails."""


@dataclass
class Peers:
    """All of them, behind one address."""

    issuer: Issuer
    auth: Auth
    memory: Memory
    skills: Skills
    address: str = ""
    elsewhere: dict[str, str] = field(default_factory=dict)  # services that are the real ones


@asynccontextmanager
async def serving_peers(issuer: Issuer) -> AsyncIterator[Peers]:
    """Serve gateway, memory and skills on a free port."""
    peers = Peers(issuer, Auth(issuer), Memory(), Skills())
    server = GrpcServer(ServerSettings(), issuer.authenticator())
    for module, name, servicer in (
        (auth_service_pb2, "AuthService", peers.auth),
        (memory_service_pb2, "MemoryService", peers.memory),
        (skill_service_pb2, "SkillService", _Part(peers.skills)),
        (execution_service_pb2, "ExecutionService", _Part(peers.skills)),
        (workspace_service_pb2, "WorkspaceService", _Part(peers.skills)),
    ):
        descriptor = module.DESCRIPTOR.services_by_name[name]
        server.add(descriptor, _only(descriptor, servicer))
    await server.start()
    peers.address = f"127.0.0.1:{server.port}"
    try:
        yield peers
    finally:
        for task in peers.skills.tasks.values():
            task.cancel()
        await server.stop(0.2)


_SHARED = (
    "GetProjectContext", "ListGrantedTools", "Execute", "ListExecutions", "CancelExecution",
)  # fmt: skip


class _Part:
    """One servicer's methods under another object, for two services of one state."""

    def __init__(self, whole: Skills) -> None:
        for name in _SHARED:
            setattr(self, name, getattr(whole, name))
