"""The skills service, as `ports.Skills`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from google.protobuf import duration_pb2

from gathering.skills.v1 import (
    execution_pb2,
    execution_service_pb2,
    skill_pb2,
    skill_service_pb2,
    workspace_service_pb2,
)
from gathering.skills.v1.execution_service_pb2_grpc import ExecutionServiceStub
from gathering.skills.v1.skill_service_pb2_grpc import SkillServiceStub
from gathering.skills.v1.workspace_service_pb2_grpc import WorkspaceServiceStub
from gathering_agent.context.models import Project
from gathering_agent.convert import struct, unstruct
from gathering_agent.errors import AwaitsApproval
from gathering_agent.models import ToolCall, ToolResult, as_text, step_of
from gathering_agent.ports import GrantedTool, Work
from gathering_agent.providers.models_dialogue import ToolSpec
from gathering_agent.streams.models import Output
from gathering_mesh.client import Channels, peer
from gathering_mesh.errors import DomainError, Unavailable

_SERVICE = "skills"
_LONGEST_WAIT = 300  # seconds; the contract's bound
_SLACK = 10.0  # seconds between the end of a wait and that of the call
_DEFAULT_TIMEOUT = 60.0
_PAGE = 200
_BEFORE_OUTPUT = 0.25  # seconds that a tool runs before what it tells is followed
_LAST_OUTPUT = 0.1  # seconds after its end in which the last of it may come
_FOLLOW_AGAIN = 0.5  # seconds until what was cut is followed again
_State = execution_pb2.ExecutionState
_RUNNING = (_State.EXECUTION_STATE_REQUESTED, _State.EXECUTION_STATE_RUNNING)
_AWAITING = _State.EXECUTION_STATE_AWAITING_APPROVAL
_log = logging.getLogger(__name__)

Hear = Callable[[Output], None]


class SkillsClient:
    """Lists and runs tools as an agent, on behalf of the turn's user."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._skills = SkillServiceStub(channels.to(_SERVICE))
        self._executions = ExecutionServiceStub(channels.to(_SERVICE))
        self._workspaces = WorkspaceServiceStub(channels.to(_SERVICE))

    async def granted(self, work: Work) -> Sequence[GrantedTool]:
        """Return the tools that the agent may use, by name."""
        asked = skill_service_pb2.ListGrantedToolsRequest(agent_id=work.agent_id)
        with peer(_SERVICE):
            answer = await self._skills.ListGrantedTools(
                asked, **self._channels.outgoing(work.call)
            )
        return [_granted(tool) for tool in answer.tools]

    async def project(self, work: Work) -> Project:
        """Return what the workspace is the home of."""
        asked = workspace_service_pb2.GetProjectContextRequest(workspace_id=work.workspace_id)
        with peer(_SERVICE):
            found = await self._workspaces.GetProjectContext(
                asked, **self._channels.outgoing(work.call)
            )
        return Project(
            found.name,
            found.description,
            found.python_version,
            found.venv_path,
            tuple(found.tools),
            tuple(found.conventions),
            tuple(found.key_files),
            tuple((one.name, one.command) for one in found.commands),
            found.notes,
            found.git_branch,
            found.git_remote,
            found.tree,
        )

    async def execute(
        self, work: Work, call: ToolCall, tool: GrantedTool, hear: Hear
    ) -> ToolResult:
        """Run a tool to its end; asking again under the same name finds the same execution.

        What it tells is followed once it has run for a moment. Raises AwaitsApproval, beside what
        the service answers.
        """
        wait = min(round(tool.timeout + _SLACK), _LONGEST_WAIT)
        execution = await self._execute(work, call, _BEFORE_OUTPUT if tool.tells else wait)
        if tool.tells and execution.state in _RUNNING:
            async with self._following(work, call, execution.execution_id, hear):
                execution = await self._execute(work, call, wait)
        if execution.state == _AWAITING:
            raise AwaitsApproval(execution.execution_id)
        if execution.state in _RUNNING:
            raise Unavailable(f"{call.tool} has not ended yet", retry_after=1.0)
        return _result(call, execution)

    async def _execute(self, work: Work, call: ToolCall, wait: float) -> execution_pb2.Execution:
        asked = execution_service_pb2.ExecuteRequest(
            request_id=call.call_id,
            tool=call.tool,
            arguments=struct(call.arguments),
            agent_id=work.agent_id,
            workspace_id=work.workspace_id,
            turn_id=work.turn_id,
            task_id=work.task_id,
            wait=duration_pb2.Duration(nanos=round(wait % 1 * 1e9), seconds=int(wait)),
        )
        with peer(_SERVICE):
            execution: execution_pb2.Execution = await self._executions.Execute(
                asked, **self._channels.outgoing(work.call, timeout=wait + _SLACK)
            )
        return execution

    @asynccontextmanager
    async def _following(
        self, work: Work, call: ToolCall, execution_id: str, hear: Hear
    ) -> AsyncIterator[None]:
        """Follow what an execution tells during the body; that fails without it."""
        task = asyncio.create_task(self._follow(work, call, execution_id, hear))
        try:
            yield
            await asyncio.wait({task}, timeout=_LAST_OUTPUT)
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.warning("what %s tells is not followed", execution_id, exc_info=error)

    async def _follow(self, work: Work, call: ToolCall, execution_id: str, hear: Hear) -> None:
        """Hear what an execution tells until it has ended, by as many streams as it takes."""
        asked = execution_service_pb2.WatchExecutionRequest(
            execution_id=execution_id, follow_output=True
        )
        while True:
            with suppress(DomainError), peer(_SERVICE):
                async for news in self._executions.WatchExecution(
                    asked, **self._channels.outgoing(work.call, timeout=_LONGEST_WAIT)
                ):
                    if news.end:
                        return
                    if news.HasField("output"):
                        piece = _output(call, execution_id, news.output)
                        hear(piece)
                        asked.output_attempt = piece.attempt
                        asked.output_offset_bytes = piece.offset + len(piece.text)
            await asyncio.sleep(_FOLLOW_AGAIN)

    async def cancel_all(self, work: Work) -> int:
        """Cancel the turn's executions that have not ended; return how many there were."""
        count = 0
        async for execution_id in self._unfinished(work):
            count += 1
            asked = execution_service_pb2.CancelExecutionRequest(
                request_id=f"{work.turn_id}:cancel:{execution_id[-8:]}", execution_id=execution_id
            )
            with peer(_SERVICE):
                await self._executions.CancelExecution(asked, **self._channels.outgoing(work.call))
        return count

    async def _unfinished(self, work: Work) -> AsyncIterator[str]:
        token = ""
        while True:
            asked = execution_service_pb2.ListExecutionsRequest(
                page_size=_PAGE, page_token=token, turn_id=work.turn_id
            )
            with peer(_SERVICE):
                page = await self._executions.ListExecutions(
                    asked, **self._channels.outgoing(work.call)
                )
            for execution in page.executions:
                if execution.state in (*_RUNNING, _AWAITING):
                    yield execution.execution_id
            token = page.next_page_token
            if not token:
                return


def _granted(tool: skill_pb2.Tool) -> GrantedTool:
    parameters = unstruct(tool.arguments_schema)
    spec = ToolSpec(tool.name, tool.description, parameters)
    timeout = float(tool.timeout_seconds or _DEFAULT_TIMEOUT)
    return GrantedTool(spec, tool.needs_workspace, timeout, tool.tells_output)


def _output(call: ToolCall, execution_id: str, output: execution_pb2.ExecutionOutput) -> Output:
    text = output.text.encode()
    return Output(
        step_of(call.call_id), call.call_id, execution_id, output.attempt, output.offset_bytes, text
    )


def _result(call: ToolCall, execution: execution_pb2.Execution) -> ToolResult:
    if execution.state == _State.EXECUTION_STATE_DONE:
        text, failed = as_text(unstruct(execution.output)), False
    else:
        state = _State.Name(execution.state).removeprefix("EXECUTION_STATE_").lower()
        text = f"{state} ({execution.error_reason}): {execution.error_message}"
        failed = True
    return ToolResult(call.call_id, call.tool, text, failed, execution.execution_id)
