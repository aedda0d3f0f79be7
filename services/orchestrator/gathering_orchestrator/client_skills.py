"""The skills service: what was done in workspaces."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from gathering.skills.v1 import (
    execution_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from gathering_mesh.call import Call
from gathering_mesh.client import Channels, peer
from gathering_mesh.errors import DomainError
from gathering_orchestrator.errors import passes
from gathering_orchestrator.tasks.models import Artifact

_PEER = "skills"
_PAGE = 200
_SHA256 = re.compile("[0-9a-f]{64}")
_MOST_ARTIFACTS = 1000  # as many as work handed in by RPC may name


class SkillsClient:
    """See `ports.Workspaces`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        channel = channels.to(_PEER)
        self._executions = execution_service_pb2_grpc.ExecutionServiceStub(channel)
        self._workspaces = workspace_service_pb2_grpc.WorkspaceServiceStub(channel)

    async def check(self, call: Call, workspace_id: str) -> None:
        """Raise NotFound unless the caller may use the workspace."""
        request = workspace_service_pb2.GetWorkspaceRequest(workspace_id=workspace_id)
        with peer(_PEER):
            await self._workspaces.GetWorkspace(request, **self._channels.outgoing(call))

    async def sha256(self, call: Call, workspace_id: str, path: str) -> str | None:
        """Return the hash of a file as it is now, None if it cannot be read."""
        request = workspace_service_pb2.ReadFileRequest(
            workspace_id=workspace_id, path=path, limit_bytes=1
        )
        try:
            with peer(_PEER):
                read = await self._workspaces.ReadFile(request, **self._channels.outgoing(call))
        except DomainError as error:
            if passes(error):
                raise
            return None
        return read.sha256

    async def artifacts(self, call: Call, task_id: str, agent_id: str) -> tuple[Artifact, ...]:
        """Return the files that an agent wrote for a task, each as written last, by path."""
        newest: dict[str, Artifact] = {}
        async for execution in self._done(call, task_id, agent_id):
            for one in execution.artifacts:
                if _SHA256.fullmatch(one.sha256):
                    newest.setdefault(one.path, Artifact(one.path, one.sha256, one.size_bytes))
        return tuple(newest[path] for path in sorted(newest)[:_MOST_ARTIFACTS])

    async def _done(
        self, call: Call, task_id: str, agent_id: str
    ) -> AsyncIterator[execution_pb2.Execution]:
        """Yield what an agent's tools did for a task, newest first."""
        token = ""
        while True:
            request = execution_service_pb2.ListExecutionsRequest(
                page_size=_PAGE, page_token=token, task_id=task_id, agent_id=agent_id
            )
            with peer(_PEER):
                page = await self._executions.ListExecutions(
                    request, **self._channels.outgoing(call)
                )
            for execution in page.executions:
                if execution.state == execution_pb2.EXECUTION_STATE_DONE:
                    yield execution
            token = page.next_page_token
            if not token:
                return
