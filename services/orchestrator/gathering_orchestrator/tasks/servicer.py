"""TaskService: convert, call a verb, convert."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from gathering.orchestrator.v1 import task_pb2, task_service_pb2
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint
from gathering_mesh.streams import until_closing
from gathering_orchestrator.tasks.convert import (
    artifacts_of,
    bare_task_to_proto,
    draft,
    state_filter,
    task_to_proto,
    verdict,
)
from gathering_orchestrator.tasks.decisions import Decisions
from gathering_orchestrator.tasks.models_states import END_STATES
from gathering_orchestrator.tasks.offers import Offers
from gathering_orchestrator.tasks.tasks import Tasks
from gathering_orchestrator.tasks.work import Work


class TaskServicer:
    """Serves `gathering.orchestrator.v1.TaskService`; the contract says what each RPC does."""

    def __init__(self, tasks: Tasks, offers: Offers, work: Work, decisions: Decisions) -> None:
        self._tasks = tasks
        self._offers = offers
        self._work = work
        self._decisions = decisions

    async def CreateTask(
        self, request: task_service_pb2.CreateTaskRequest, call: Call
    ) -> task_pb2.Task:
        """Give a task to a circle."""
        return task_to_proto(await self._tasks.create(call, draft(request)))

    async def GetTask(self, request: task_service_pb2.GetTaskRequest, call: Call) -> task_pb2.Task:
        """Read a task."""
        return await self._read(call, request.task_id)

    async def ListTasks(
        self, request: task_service_pb2.ListTasksRequest, call: Call
    ) -> task_service_pb2.ListTasksResponse:
        """List tasks, newest first."""
        state = state_filter(request.state)
        mark = query_fingerprint("ListTasks", call.tenant, request.circle_id, request.state)
        (before, *_) = decode_token(mark, request.page_token) or ("",)
        size = page_size(request.page_size)
        found = await self._tasks.page(
            call, before=str(before), limit=size + 1, circle_id=request.circle_id, state=state
        )
        page = found[:size]
        return task_service_pb2.ListTasksResponse(
            tasks=map(bare_task_to_proto, page),
            next_page_token=encode_token(mark, (page[-1].task_id,)) if found[size:] else "",
        )

    async def WatchTask(
        self, request: task_service_pb2.WatchTaskRequest, call: Call
    ) -> AsyncGenerator[task_service_pb2.WatchTaskResponse, None]:
        """Stream a task until it ends."""
        async for view in until_closing(call, self._tasks.watch(call, request.task_id)):
            yield task_service_pb2.WatchTaskResponse(
                task=task_to_proto(view), end=view.task.state in END_STATES
            )
        if call.closing:
            yield task_service_pb2.WatchTaskResponse(reconnect=call.closing.reason.lower())

    async def CancelTask(
        self, request: task_service_pb2.CancelTaskRequest, call: Call
    ) -> task_pb2.Task:
        """Cancel a task."""
        return task_to_proto(await self._tasks.cancel(call, request.task_id))

    async def AcceptOffer(
        self, request: task_service_pb2.AcceptOfferRequest, call: Call
    ) -> task_pb2.Task:
        """Accept an offer for an EXTERNAL member."""
        await self._offers.accept(call, request.task_id, request.offer_id)
        return await self._read(call, request.task_id)

    async def DeclineOffer(
        self, request: task_service_pb2.DeclineOfferRequest, call: Call
    ) -> task_pb2.Task:
        """Decline an offer for an EXTERNAL member."""
        await self._offers.decline(call, request.task_id, request.offer_id, request.message)
        return await self._read(call, request.task_id)

    async def SubmitWork(
        self, request: task_service_pb2.SubmitWorkRequest, call: Call
    ) -> task_pb2.Task:
        """Take in the work of an EXTERNAL member."""
        made = artifacts_of(request.artifacts)
        await self._work.submit(call, request.task_id, request.summary, made)
        return await self._read(call, request.task_id)

    async def SubmitReview(
        self, request: task_service_pb2.SubmitReviewRequest, call: Call
    ) -> task_pb2.Task:
        """Take a review of an EXTERNAL member, or a human's decision."""
        await self._decisions.submit(
            call, request.task_id, request.review_id, verdict(request.verdict), request.comment
        )
        return await self._read(call, request.task_id)

    async def _read(self, call: Call, task_id: str) -> task_pb2.Task:
        return task_to_proto(await self._tasks.get(call, task_id))
