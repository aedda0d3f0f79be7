"""Streams that go on by themselves: cut, drained or outlived by their token, they are resumed."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar, cast

from gathering.agent.v1 import turn_service_pb2 as turn_service
from gathering.agent.v1.turn_pb2 import TURN_STATE_WAITING, TurnFrame
from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import event_service_pb2 as event_service
from gathering.orchestrator.v1 import task_service_pb2 as task_service
from gathering.orchestrator.v1.task_pb2 import Task
from gathering_client.connection import Gathering
from gathering_client.errors import GatheringError, StreamCutError

Answer = TypeVar("Answer")

TERMINAL_TURN_FRAMES = frozenset({"completed", "failed", "cancelled"})
_PASSING = frozenset({"UNAVAILABLE", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "INTERNAL"})


@dataclass(frozen=True)
class Followed:
    """An event, or a gap (`event` is None), with the cursor that follows it."""

    event: Event | None
    cursor: str
    gap: str = ""


@dataclass
class Patience:
    """How often a stream may fail in a row without a frame, and how long to wait between.

    The pause doubles with each failure, from `first_pause` to `longest_pause` (seconds).
    """

    tries: int = 8
    first_pause: float = 0.2
    longest_pause: float = 5.0
    _failures: int = field(default=0, init=False)

    def progress(self) -> None:
        """Begin to count anew: the stream gave something."""
        self._failures = 0

    async def after(self, error: GatheringError | None) -> None:
        """Wait before the next try; raise when there should be none."""
        if error is not None and error.status not in _PASSING:
            raise error
        self._failures += 1
        if self._failures > self.tries:
            raise error or StreamCutError("UNAVAILABLE", "", "the stream keeps being cut")
        pause = min(self.longest_pause, self.first_pause * 2 ** (self._failures - 1))
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads clients, hides nothing


def _answers(stream: AsyncIterable[Answer]) -> "aclosing[AsyncGenerator[Answer, None]]":
    """Close a stream where its reader leaves it; the connection's streams are generators."""
    return aclosing(cast("AsyncGenerator[Answer, None]", stream))


async def follow_events(
    mesh: Gathering,
    *,
    cursor: str = "",
    types: Sequence[str] = (),
    subject_ids: Sequence[str] = (),
    checkpoints: bool = False,
    patience: Patience | None = None,
) -> AsyncGenerator[Followed, None]:
    """Yield events from a cursor on, for ever, each once and in each service's order.

    Args:
        mesh: the connection.
        cursor: of an earlier event; `start`: from the oldest that is kept; empty: from now on.
        types: only these, such as `task_created`; empty: all.
        subject_ids: only events that mention one of these; empty: all.
        checkpoints: yield checkpoints too, as Followed without event and gap. The first tells
            that the subscription stands.
        patience: with failures.

    """
    event_filter = event_service.EventFilter(types=types, subject_ids=subject_ids)
    patience = patience or Patience()
    while True:
        failure = None
        request = event_service.SubscribeRequest(filter=event_filter, cursor=cursor)
        try:
            async with _answers(mesh.events.Subscribe(request)) as answers:
                async for answer in answers:
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


async def follow_turn(
    mesh: Gathering, turn_id: str, after: str = "", *, patience: Patience | None = None
) -> AsyncGenerator[TurnFrame, None]:
    """Yield a turn's frames to its end; the last is `completed`, `failed` or `cancelled`.

    A stream that is resumed says again how the turn stands; a `turn` frame is yielded as the first
    and, of a turn that waited for its session, when it waits no more.
    """
    patience = patience or Patience()
    waits = True  # so far
    while True:
        failure = None
        request = turn_service.WatchTurnRequest(turn_id=turn_id, after=after)
        try:
            async with _answers(mesh.turns.WatchTurn(request)) as answers:
                async for answer in answers:
                    patience.progress()
                    after = answer.frame.cursor or after
                    kind = answer.frame.WhichOneof("frame")
                    if kind != "reconnect" and (kind != "turn" or waits):
                        waits = answer.frame.turn.state == TURN_STATE_WAITING
                        yield answer.frame
                    if kind in TERMINAL_TURN_FRAMES:
                        return
        except GatheringError as error:
            failure = error
        await patience.after(failure)


async def follow_task(
    mesh: Gathering, task_id: str, *, patience: Patience | None = None
) -> AsyncGenerator[Task, None]:
    """Yield a task as it is, then whenever it changes; the last is in an end state."""
    patience = patience or Patience()
    last: Task | None = None
    while True:
        failure = None
        request = task_service.WatchTaskRequest(task_id=task_id)
        try:
            async with _answers(mesh.tasks.WatchTask(request)) as answers:
                async for answer in answers:
                    patience.progress()
                    if answer.task != last:  # A stream that is resumed begins with what we know.
                        last = answer.task
                        yield answer.task
                    if answer.end:
                        return
        except GatheringError as error:
            failure = error
        await patience.after(failure)
