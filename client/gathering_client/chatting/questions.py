"""Questions of an agent, whether a tool may run: put to who sits here, or waited for."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.json_format import MessageToDict

from gathering.skills.v1 import execution_pb2
from gathering.skills.v1 import execution_service_pb2 as pb
from gathering_client.chatting.screen import Screen
from gathering_client.chatting.typist import is_terminal, typed_line
from gathering_client.chatting.words import shortened, span_words
from gathering_client.connection import Gathering
from gathering_client.errors import GatheringError
from gathering_client.output import visible

Answer = TypeVar("Answer")

AWAITING = execution_pb2.EXECUTION_STATE_AWAITING_APPROVAL
_LOOK_SECONDS = 1.0
_LONGEST = 4000  # characters of arguments
_WHO = (
    "It can be answered by the user for whom the agent works and by administrators, each of them "
    "logged in as themselves: gathering approvals approve {id}, or deny"
)


class Questions:
    """Looks for questions of a turn while its tools run, and brings each to an end."""

    def __init__(self, mesh: Gathering, screen: Screen, *, asks: bool) -> None:
        self._mesh = mesh
        self._screen = screen
        self._asks = asks and is_terminal()
        self._running = asyncio.Event()  # whether tools run
        self._nudged = asyncio.Event()  # whether to look at once
        self._settling = asyncio.Lock()

    async def watch(self, turn_id: str) -> None:
        """Look until cancelled; a service that is away is looked for again."""
        request = pb.ListExecutionsRequest(turn_id=turn_id, state=AWAITING)
        while True:
            await self._running.wait()
            try:
                for found in (await self._mesh.executions.ListExecutions(request)).executions:
                    async with self._settling:
                        await self._settle(await self._read(found.execution_id))
            except GatheringError as error:
                if error.status not in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "NOT_FOUND"}:
                    self._screen.note(f"Questions cannot be looked for: {error}", "red")
                    return
            await asyncio.sleep(_LOOK_SECONDS)

    def tools_run(self) -> None:
        """Look from now on."""
        self._running.set()

    async def tools_ended(self) -> None:
        """Look no more; tell first what was decided about what was asked."""
        self._running.clear()
        self._nudged.set()
        async with self._settling:
            self._nudged.clear()

    async def _settle(self, question: execution_pb2.Execution) -> None:
        if question.state != AWAITING:
            return
        self._screen.note(question_words(question), "bold")
        decided = asyncio.create_task(self._decided(question.execution_id))
        try:
            if self._asks:
                await self._ask(question, decided)
            else:
                self._screen.note(_WHO.format(id=question.execution_id))
            self._screen.note(decision_words(await decided), "magenta")
        finally:
            decided.cancel()

    async def _ask(
        self, question: execution_pb2.Execution, decided: "asyncio.Task[execution_pb2.Execution]"
    ) -> None:
        while not decided.done():
            self._screen.note("Let it run? yes, no, or wait for somebody else:", "bold")
            answer = ((await _first(typed_line(), decided)) or "wait").casefold()
            try:
                if answer in {"y", "yes"}:
                    await self._mesh.executions.ApproveExecution(
                        pb.ApproveExecutionRequest(
                            execution_id=question.execution_id, digest=question.approval.digest
                        )
                    )
                elif answer in {"n", "no"}:
                    await self._deny(question, decided)
                elif answer in {"w", "wait"}:
                    self._screen.note(_WHO.format(id=question.execution_id))
                else:
                    continue
            except GatheringError as error:
                if error.reason != "APPROVAL_CLOSED":  # somebody was faster
                    self._screen.note(str(error), "red")
                    self._screen.note(_WHO.format(id=question.execution_id))
            return

    async def _deny(
        self, question: execution_pb2.Execution, decided: "asyncio.Task[execution_pb2.Execution]"
    ) -> None:
        self._screen.note("Why not? The agent is told; nothing: no reason.", "bold")
        why = await _first(typed_line(), decided)
        await self._mesh.executions.DenyExecution(
            pb.DenyExecutionRequest(
                execution_id=question.execution_id,
                digest=question.approval.digest,
                comment=why or "",
            )
        )

    async def _decided(self, execution_id: str) -> execution_pb2.Execution:
        """Return an execution as soon as nobody has to be asked any more."""
        while True:
            execution = await self._read(execution_id)
            if execution.state != AWAITING:
                return execution
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), _LOOK_SECONDS)

    async def _read(self, execution_id: str) -> execution_pb2.Execution:
        return await self._mesh.executions.GetExecution(
            pb.GetExecutionRequest(execution_id=execution_id)
        )


async def _first(
    line: Awaitable[str | None], decided: "asyncio.Task[execution_pb2.Execution]"
) -> str | None:
    """Return a line, None at the end of input or when somebody else decided first."""
    typing = asyncio.ensure_future(line)
    try:
        await asyncio.wait({typing, decided}, return_when=asyncio.FIRST_COMPLETED)
        return typing.result() if typing.done() else None
    finally:
        typing.cancel()


def question_words(question: execution_pb2.Execution) -> str:
    """Return what is asked: the tool, its arguments whole, and until when."""
    given = json.dumps(MessageToDict(question.arguments), ensure_ascii=False, indent=2)
    left = question.approval.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    return (
        f"? {question.tool} waits for an approval, for {span_words(left)}:\n"
        f"{visible(shortened(given, _LONGEST))}"
    )


def decision_words(execution: execution_pb2.Execution) -> str:
    """Return who decided what."""
    approval = execution.approval
    state = execution_pb2.ExecutionState.Name(execution.state).removeprefix("EXECUTION_STATE_")
    if not approval.decided_by_user_id:
        return f"{execution.tool}: {state.lower().replace('_', ' ')}, nobody decided"
    said = "denied" if state == "DENIED" else "approved"
    why = f": {visible(approval.comment)}" if approval.comment else ""
    return f"{execution.tool} was {said} by {approval.decided_by_user_id}{why}"
