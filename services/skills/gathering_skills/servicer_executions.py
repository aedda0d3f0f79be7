"""ExecutionService."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gathering.skills.v1 import execution_pb2
from gathering.skills.v1 import execution_service_pb2 as pb
from gathering_mesh.call import Call
from gathering_mesh.streams import until_closing
from gathering_skills.convert import execution_message, filter_of, order_of, wait_of
from gathering_skills.convert_outputs import part_message, place_of, watched_message
from gathering_skills.executions import Executions
from gathering_skills.models_outputs import Place
from gathering_skills.questions import Approvals
from gathering_skills.watching import Watching


class ExecutionServicer:
    """Serves `gathering.skills.v1.ExecutionService`."""

    def __init__(self, executions: Executions, approvals: Approvals, watching: Watching) -> None:
        self._executions = executions
        self._approvals = approvals
        self._watching = watching

    async def Execute(self, request: pb.ExecuteRequest, call: Call) -> execution_pb2.Execution:
        """Run a tool."""
        order, wait = order_of(request), wait_of(request)
        return execution_message(
            await self._executions.execute(call, request.request_id, order, wait)
        )

    async def GetExecution(
        self, request: pb.GetExecutionRequest, call: Call
    ) -> execution_pb2.Execution:
        """Return an execution."""
        return execution_message(await self._executions.get(call, request.execution_id))

    async def ListExecutions(
        self, request: pb.ListExecutionsRequest, call: Call
    ) -> pb.ListExecutionsResponse:
        """Return a page of executions."""
        page = await self._executions.page(
            call, filter_of(request), request.page_size, request.page_token
        )
        return pb.ListExecutionsResponse(
            executions=map(execution_message, page.executions),
            next_page_token=page.next_page_token,
        )

    async def ReadExecutionOutput(
        self, request: pb.ReadExecutionOutputRequest, call: Call
    ) -> pb.ReadExecutionOutputResponse:
        """Return a part of what a tool told."""
        place = Place(request.attempt, request.offset_bytes)
        return part_message(
            await self._watching.read(call, request.execution_id, place, request.limit_bytes)
        )

    async def WatchExecution(
        self, request: pb.WatchExecutionRequest, call: Call
    ) -> AsyncGenerator[pb.WatchExecutionResponse, None]:
        """Stream an execution; a stream that is cut by a drain ends without `end`."""
        news = self._watching.watch(call, request.execution_id, place_of(request))
        async for found in until_closing(call, news):
            yield watched_message(found)

    async def ApproveExecution(
        self, request: pb.ApproveExecutionRequest, call: Call
    ) -> execution_pb2.Execution:
        """Let an execution run."""
        return execution_message(
            await self._approvals.approve(
                call, request.execution_id, request.digest, request.comment
            )
        )

    async def DenyExecution(
        self, request: pb.DenyExecutionRequest, call: Call
    ) -> execution_pb2.Execution:
        """End an execution that has not run."""
        return execution_message(
            await self._approvals.deny(call, request.execution_id, request.digest, request.comment)
        )

    async def CancelExecution(
        self, request: pb.CancelExecutionRequest, call: Call
    ) -> execution_pb2.Execution:
        """Cancel an execution."""
        return execution_message(await self._executions.cancel(call, request.execution_id))
