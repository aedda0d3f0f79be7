"""Streams that go on by themselves: cut, drained or outlived by their token, they are resumed."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from gathering.agent.v1 import turn_service_pb2 as turn_service
from gathering.agent.v1.turn_pb2 import TurnFrame
from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import event_service_pb2 as event_service
from gathering.orchestrator.v1 import task_service_pb2 as task_service
from gathering.orchestrator.v1.task_pb2 import Task
from gathering_client.connection import Gathering
from gathering_client.errors import GatheringError, StreamCutError

TERMINAL_TURN_FRAMES = frozenset({"completed", "failed", "cancelled"})
_PASSING = frozenset({"UNAVAILABLE", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL"})
_TRIES = 8  # in a row without a frame
_LONGEST_PAUSE = 5.0  # seconds


@dataclass(frozen=True)
class Followed:
    """An event, or a gap (`event` is None), with the cursor that follows it."""

    event: Event | None
    cursor: str
    gap: str = ""


class _Patience:
    """How often a stream may fail in a row, and how long to wait before the next try."""

    def __init__(self) -> None:
        self._failures = 0

    def progress(self) -> None:
        self._failures = 0

    async def after(self, error: GatheringError | None) -> None:
        if error is not None and error.status not in _PASSING:
            raise error
        self._failures += 1
        if self._failures > _TRIES:
            raise error or StreamCutError("UNAVAILABLE", "", "the stream keeps being cut")
        pause = min(_LONGEST_PAUSE, 0.1 * 2**self._failures)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads clients, hides nothing


async def follow_events(
    mesh: Gathering,
    *,
    cursor: str = "",
    types: Sequence[str] = (),
    subject_ids: Sequence[str] = (),
    checkpoints: bool = False,
) -> AsyncIterator[Followed]:
    """Yield events from a cursor on, for ever, each once and in each service's order.

    Args:
        mesh: the connection.
        cursor: of an earlier event; `start`: from the oldest that is kept; empty: from now on.
        types: only these, such as `task_created`; empty: all.
        subject_ids: only events that mention one of these; empty: all.
        checkpoints: yield checkpoints too, as Followed without event and gap. The first tells
            that the subscription stands.

    """
    event_filter = event_service.EventFilter(types=types, subject_ids=subject_ids)
    patience = _Patience()
    while True:
        failure = None
        request = event_service.SubscribeRequest(filter=event_filter, cursor=cursor)
        try:
            async for answer in mesh.events.Subscribe(request):
                patience.progress()
                followed = _followed(answer)
                cursor = followed.cursor or cursor
                if followed.event or followed.gap or checkpoints:
                    yield followed
        except GatheringError as error:
            failure = error
        await patience.after(failure)


def _followed(answer: event_service.SubscribeResponse) -> Followed:
    match answer.WhichOneof("frame"):
        case "event":
            return Followed(answer.event.event, answer.event.cursor)
        case "gap":
            return Followed(None, answer.gap.cursor, f"{answer.gap.source}: {answer.gap.reason}")
        case "checkpoint":
            return Followed(None, answer.checkpoint.cursor)
        case _:
            return Followed(None, answer.reconnect.cursor)


async def follow_turn(mesh: Gathering, turn_id: str, after: str = "") -> AsyncIterator[TurnFrame]:
    """Yield a turn's frames to its end; the last is `completed`, `failed` or `cancelled`."""
    patience = _Patience()
    while True:
        failure = None
        request = turn_service.WatchTurnRequest(turn_id=turn_id, after=after)
        try:
            async for answer in mesh.turns.WatchTurn(request):
                patience.progress()
                after = answer.frame.cursor or after
                kind = answer.frame.WhichOneof("frame")
                if kind != "reconnect":
                    yield answer.frame
                if kind in TERMINAL_TURN_FRAMES:
                    return
        except GatheringError as error:
            failure = error
        await patience.after(failure)


async def follow_task(mesh: Gathering, task_id: str) -> AsyncIterator[Task]:
    """Yield a task whenever it changes, to its end; the last is in an end state."""
    patience = _Patience()
    while True:
        failure = None
        try:
            async for answer in mesh.tasks.WatchTask(
                task_service.WatchTaskRequest(task_id=task_id)
            ):
                patience.progress()
                yield answer.task
                if answer.end:
                    return
        except GatheringError as error:
            failure = error
        await patience.after(failure)
