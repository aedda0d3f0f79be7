"""The skills service of a test: real server, real database, callers with real tokens."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import duration_pb2, json_format, struct_pb2

from gathering.skills.v1 import (
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    skill_pb2,
    skill_service_pb2,
    skill_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from gathering_mesh.client import peer
from gathering_mesh.ids import new_id
from gathering_mesh.keys import SigningKey, keys_of, read_jwks
from gathering_skills.app import SkillsApp, open_app
from gathering_skills.settings import SkillsSettings
from gathering_skills.tools.standard import SKILLS
from tests.integration.skills.probe_skill import SKILL as PROBE
from tests.support.postgres import TestDatabase
from tests.support.probe import Authority, headers

SECONDS = 40
LEASE = 3.0  # short, and long enough for a machine that is busy with other tests
READ = skill_pb2.PERMISSION_READ
WRITE = skill_pb2.PERMISSION_WRITE
DELETE = skill_pb2.PERMISSION_DELETE
EXECUTE = skill_pb2.PERMISSION_EXECUTE
SCOPES = "skills.read skills.execute skills.approve skills.admin workspaces.read workspaces.admin"
MEMBER_SCOPES = "skills.read skills.execute skills.approve workspaces.read"
_STUBS: dict[str, Any] = {
    "ExecutionService": execution_service_pb2_grpc.ExecutionServiceStub,
    "SkillService": skill_service_pb2_grpc.SkillServiceStub,
    "WorkspaceService": workspace_service_pb2_grpc.WorkspaceServiceStub,
}
State = execution_pb2.ExecutionState
DONE = State.EXECUTION_STATE_DONE
FAILED = State.EXECUTION_STATE_FAILED
CANCELLED = State.EXECUTION_STATE_CANCELLED
RUNNING = State.EXECUTION_STATE_RUNNING
REQUESTED = State.EXECUTION_STATE_REQUESTED
UNKNOWN = State.EXECUTION_STATE_UNKNOWN_OUTCOME
AWAITING = State.EXECUTION_STATE_AWAITING_APPROVAL
DENIED = State.EXECUTION_STATE_DENIED
EXPIRED = State.EXECUTION_STATE_EXPIRED


class Issuer(Authority):
    """Issues tokens of users and of the services that call skills."""

    def __init__(self) -> None:
        super().__init__()
        names = ("agent", "gateway", "orchestrator", "skills")
        self.actors = {name: SigningKey.generate() for name in names}


@dataclass(frozen=True)
class Caller:
    """A user, alone or through a service, with the RPCs at hand; refusals are domain errors."""

    channel: grpc.aio.Channel
    issuer: Issuer
    tenant: str
    user: str
    role: str = "admin"
    actor: str = ""
    scopes: str = SCOPES

    def through(self, actor: str = "agent") -> Caller:
        """Return the same user behind a service."""
        return replace(self, actor=actor)

    def member(self) -> Caller:
        """Return another user of the tenant, who administers nothing."""
        return replace(self, user=new_id("usr"), role="member", scopes=MEMBER_SCOPES)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what identifies the caller."""
        token = self.issuer.user(self.scopes, tenant=self.tenant, sub=self.user, role=self.role)
        return headers(token, self.issuer.actor(self.actor) if self.actor else None)

    async def call(self, service: str, rpc: str, request: Any, timeout: float = SECONDS) -> Any:
        """Call an RPC."""
        method = getattr(_STUBS[service](self.channel), rpc)
        with peer("skills"):
            return await method(request, metadata=self.metadata(), timeout=timeout)

    async def workspace(self, path: Path | str, **fields: Any) -> str:
        """Make a directory a workspace; return its id."""
        request = workspace_service_pb2.CreateWorkspaceRequest(path=str(path), **fields)
        made = await self.call("WorkspaceService", "CreateWorkspace", request)
        return str(made.workspace_id)

    async def read_file(
        self, workspace: str, path: str, **fields: Any
    ) -> workspace_service_pb2.ReadFileResponse:
        """Read a part of a file."""
        request = workspace_service_pb2.ReadFileRequest(workspace_id=workspace, path=path, **fields)
        part: workspace_service_pb2.ReadFileResponse = await self.call(
            "WorkspaceService", "ReadFile", request
        )
        return part

    async def grant(self, agent: str, skill: str, *permissions: Any, **fields: Any) -> Any:
        """Grant a skill."""
        request = skill_service_pb2.CreateGrantRequest(
            agent_id=agent, skill=skill, permissions=permissions, **fields
        )
        return await self.call("SkillService", "CreateGrant", request)

    async def execute(
        self,
        tool: str,
        workspace: str = "",
        *,
        agent: str = "",
        request_id: str = "",
        wait: float = 30,
        timeout: float = SECONDS,
        **arguments: Any,
    ) -> execution_pb2.Execution:
        """Run a tool."""
        request = execution_service_pb2.ExecuteRequest(
            request_id=request_id or new_id("req"),
            tool=tool,
            arguments=struct(arguments),
            agent_id=agent,
            workspace_id=workspace,
            wait=duration_pb2.Duration(seconds=int(wait), nanos=int(wait % 1 * 1e9)),
        )
        execution: execution_pb2.Execution = await self.call(
            "ExecutionService", "Execute", request, timeout
        )
        return execution

    async def output(self, tool: str, workspace: str = "", **arguments: Any) -> dict[str, Any]:
        """Run a tool that ends well; return what it gives."""
        execution = await self.execute(tool, workspace, **arguments)
        assert execution.state == DONE, (execution.error_reason, execution.error_message)
        return output_of(execution)

    async def refused(self, tool: str, workspace: str = "", **arguments: Any) -> tuple[str, str]:
        """Run a tool that fails; return why."""
        execution = await self.execute(tool, workspace, **arguments)
        assert execution.state == FAILED, execution
        return execution.error_reason, execution.error_message

    async def get(self, execution_id: str) -> execution_pb2.Execution:
        """Read an execution."""
        request = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        execution: execution_pb2.Execution = await self.call(
            "ExecutionService", "GetExecution", request
        )
        return execution

    async def list(self, **fields: Any) -> execution_service_pb2.ListExecutionsResponse:
        """List executions."""
        request = execution_service_pb2.ListExecutionsRequest(**fields)
        page: execution_service_pb2.ListExecutionsResponse = await self.call(
            "ExecutionService", "ListExecutions", request
        )
        return page

    async def cancel(self, execution_id: str) -> execution_pb2.Execution:
        """Cancel an execution."""
        request = execution_service_pb2.CancelExecutionRequest(
            execution_id=execution_id, request_id=new_id("req")
        )
        execution: execution_pb2.Execution = await self.call(
            "ExecutionService", "CancelExecution", request
        )
        return execution

    async def approve(
        self, execution: execution_pb2.Execution, **fields: Any
    ) -> execution_pb2.Execution:
        """Approve what was asked."""
        request = execution_service_pb2.ApproveExecutionRequest(
            execution_id=execution.execution_id, digest=execution.approval.digest
        )
        request.MergeFrom(execution_service_pb2.ApproveExecutionRequest(**fields))
        approved: execution_pb2.Execution = await self.call(
            "ExecutionService", "ApproveExecution", request
        )
        return approved

    async def deny(
        self, execution: execution_pb2.Execution, comment: str = ""
    ) -> execution_pb2.Execution:
        """Deny what was asked."""
        request = execution_service_pb2.DenyExecutionRequest(
            execution_id=execution.execution_id,
            digest=execution.approval.digest,
            comment=comment,
        )
        denied: execution_pb2.Execution = await self.call(
            "ExecutionService", "DenyExecution", request
        )
        return denied

    async def read_output(
        self, execution_id: str, **fields: Any
    ) -> execution_service_pb2.ReadExecutionOutputResponse:
        """Read a part of what a tool told."""
        request = execution_service_pb2.ReadExecutionOutputRequest(
            execution_id=execution_id, **fields
        )
        part: execution_service_pb2.ReadExecutionOutputResponse = await self.call(
            "ExecutionService", "ReadExecutionOutput", request
        )
        return part

    async def whole_output(self, execution_id: str, **fields: Any) -> str:
        """Read all that a tool told, part by part."""
        parts, at = [], 0
        while True:
            part = await self.read_output(execution_id, offset_bytes=at, **fields)
            assert part.output.offset_bytes == at
            parts.append(part.output.text)
            at = part.next_offset_bytes
            if at == part.total_bytes:
                return "".join(parts)

    def watch(self, execution_id: str, **fields: Any) -> Any:
        """Return the stream of an execution."""
        request = execution_service_pb2.WatchExecutionRequest(execution_id=execution_id, **fields)
        stub = _STUBS["ExecutionService"](self.channel)
        return stub.WatchExecution(request, metadata=self.metadata(), timeout=SECONDS)

    async def ended(self, execution_id: str) -> execution_pb2.Execution:
        """Watch an execution to its end."""
        async for message in self.watch(execution_id):
            if message.end:
                execution: execution_pb2.Execution = message.execution
                return execution
        raise AssertionError("the stream was cut")


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    """Return a JSON object as protobuf has it."""
    message = struct_pb2.Struct()
    message.update(values)
    return message


def output_of(execution: execution_pb2.Execution) -> dict[str, Any]:
    """Return the output as JSON."""
    found: dict[str, Any] = json_format.MessageToDict(execution.output)
    return found


def arguments_of(execution: execution_pb2.Execution) -> dict[str, Any]:
    """Return the arguments as JSON."""
    found: dict[str, Any] = json_format.MessageToDict(execution.arguments)
    return found


@dataclass(frozen=True)
class Service:
    """A running skills service."""

    app: SkillsApp
    issuer: Issuer
    channel: grpc.aio.Channel

    def caller(self, tenant: str = "", **fields: Any) -> Caller:
        """Return a new administrator, of a new tenant unless one is named."""
        return Caller(self.channel, self.issuer, tenant or new_id("ten"), new_id("usr"), **fields)


def write_files(folder: Path, issuer: Issuer) -> dict[str, Path]:
    """Write the files that the service reads at its start."""
    key, actors = folder / "skills.pem", folder / "actors.json"
    if not key.exists():
        key.write_bytes(issuer.actors["skills"].pem())
        key.chmod(stat.S_IRUSR)
        actors.write_text(json.dumps(issuer.actors_document()))
    return {"actor_key_file": key, "actors_file": actors}


def settings_of(
    database: TestDatabase, issuer: Issuer, folder: Path, roots: tuple[str, ...], **more: Any
) -> SkillsSettings:
    """Return the settings of a service for tests."""
    return SkillsSettings(
        database_url=database.app("skills"),
        system_database_url=database.system("skills"),
        workspace_roots=roots,
        **{"lease_seconds": LEASE, **write_files(folder, issuer), **more},
    )


@asynccontextmanager
async def serving(
    database: TestDatabase, issuer: Issuer, folder: Path, roots: tuple[str, ...], **more: Any
) -> AsyncIterator[Service]:
    """Run the service with its background work until the end of the block."""
    settings = settings_of(database, issuer, folder, roots, **more)
    users = keys_of(lambda: read_jwks(issuer.jwks()))
    async with open_app(settings, users=users, skills=(*SKILLS, PROBE)) as app:
        await app.server.start()
        work = asyncio.create_task(app.run())
        try:
            address = f"127.0.0.1:{app.server.port}"
            async with grpc.aio.insecure_channel(address) as channel:
                yield Service(app, issuer, channel)
        finally:
            await app.server.stop(0.5)
            work.cancel()
            await asyncio.wait({work})
            if not work.cancelled():
                work.result()
