"""Streams that are cut, drained or refused go on: nothing is lost and nothing comes twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.message import Message
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from gathering.agent.v1.turn_pb2 import StreamReconnect, TextDelta, Turn, TurnFrame
from gathering.agent.v1.turn_service_pb2 import WatchTurnResponse
from gathering.events.v1.event_pb2 import Event
from gathering.gateway.v1 import event_service_pb2 as event_service
from gathering.orchestrator.v1.task_pb2 import TASK_STATE_COMPLETED, TASK_STATE_RUNNING, Task
from gathering.orchestrator.v1.task_service_pb2 import WatchTaskResponse
from gathering_client import Gathering, GatheringError, StreamCutError
from gathering_client.streams import (
    Followed,
    Patience,
    follow_events,
    follow_task,
    follow_turn,
)
from tests.unit.client.edge import Edge, Refused, connected

SUBSCRIBE = "gathering.gateway.v1.EventService.Subscribe"
WATCH_TURN = "gathering.agent.v1.TurnService.WatchTurn"
WATCH_TASK = "gathering.orchestrator.v1.TaskService.WatchTask"


def quick(tries: int = 8) -> Patience:
    """Return a patience that does not keep a test waiting."""
    return Patience(tries=tries, first_pause=0.001, longest_pause=0.001)


class Feed:
    """A log of events; each subscription ends after as many frames as `cuts` says, in its way."""

    def __init__(self, count: int, cuts: Sequence[tuple[int, str]]) -> None:
        self.count = count
        self._cuts = list(cuts)

    async def subscribe(self, request: Any) -> AsyncGenerator[Message, None]:
        """Send the log from the cursor on."""
        sent = int(request.cursor) if request.cursor not in {"", "start"} else 0
        frames, how = self._cuts.pop(0) if self._cuts else (self.count, "wait")
        for position in range(sent + 1, min(sent + frames, self.count) + 1):
            event = Event(id=f"evt_{position}", position=position)
            frame = event_service.EventFrame(event=event, cursor=str(position))
            yield event_service.SubscribeResponse(event=frame)
            sent = position
        if how == "error":
            raise Refused
        if how == "reconnect":
            reconnect = event_service.Reconnect(reason="draining", cursor=str(sent))
            yield event_service.SubscribeResponse(reconnect=reconnect)


async def first(stream: AsyncGenerator[Followed, None], count: int) -> list[Followed]:
    """Return so many of a stream's items and leave it."""
    found: list[Followed] = []
    async with aclosing(stream) as items:
        async for item in items:
            found.append(item)
            if len(found) == count:
                break
    return found


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(("error", "end", "reconnect"))), max_size=6
    )
)
async def test_feed_cut_anywhere_gives_each_event_once_in_order(
    cuts: list[tuple[int, str]],
) -> None:
    feed = Feed(12, cuts)
    edge = Edge({SUBSCRIBE: feed.subscribe})
    async with connected(edge) as mesh:
        found = await first(follow_events(mesh, cursor="start", patience=quick()), 12)
    assert [item.event.position for item in found if item.event] == list(range(1, 13))
    assert [item.cursor for item in found] == [str(position) for position in range(1, 13)]


async def test_gap_is_told_and_checkpoints_when_asked_for() -> None:
    async def subscribe(request: Any) -> AsyncGenerator[Message, None]:
        yield event_service.SubscribeResponse(checkpoint=event_service.Checkpoint(cursor="c1"))
        gap = event_service.Gap(source="memory", reason="retention", cursor="c2")
        yield event_service.SubscribeResponse(gap=gap)

    async with connected(Edge({SUBSCRIBE: subscribe})) as mesh:
        all_frames = await first(follow_events(mesh, checkpoints=True, patience=quick()), 2)
        only_gap = await first(follow_events(mesh, patience=quick()), 1)
    gap = Followed(None, "c2", "memory: retention")
    assert all_frames == [Followed(None, "c1"), gap]
    assert only_gap == [gap]


async def test_subscription_resumes_from_the_checkpoint() -> None:
    async def subscribe(request: Any) -> AsyncGenerator[Message, None]:
        if not request.cursor:
            yield event_service.SubscribeResponse(checkpoint=event_service.Checkpoint(cursor="c7"))
            raise Refused
        frame = event_service.EventFrame(event=Event(position=8), cursor="c8")
        yield event_service.SubscribeResponse(event=frame)

    edge = Edge({SUBSCRIBE: subscribe})
    async with connected(edge) as mesh:
        await first(follow_events(mesh, types=["task_created"], patience=quick()), 1)
    asked = [call.request for call in edge.calls("Subscribe")]
    assert [request.cursor for request in asked] == ["", "c7"]
    assert all(list(request.filter.types) == ["task_created"] for request in asked)


@pytest.mark.parametrize("code", [StatusCode.INVALID_ARGUMENT, StatusCode.PERMISSION_DENIED])
async def test_refused_subscription_is_not_repeated(code: StatusCode) -> None:
    async def subscribe(request: Any) -> AsyncGenerator[Message, None]:
        if request.cursor == "rubbish":
            raise Refused(code, "INVALID_CURSOR")
        yield event_service.SubscribeResponse()

    edge = Edge({SUBSCRIBE: subscribe})
    async with connected(edge) as mesh:
        with pytest.raises(GatheringError) as caught:
            await first(follow_events(mesh, cursor="rubbish", patience=quick()), 1)
    assert (caught.value.status, caught.value.reason) == (code.name, "INVALID_CURSOR")
    assert len(edge.calls("Subscribe")) == 1


@pytest.mark.parametrize(("how", "error"), [("end", StreamCutError), ("error", GatheringError)])
async def test_stream_that_gives_nothing_ends_patience(
    how: str, error: type[GatheringError]
) -> None:
    edge = Edge({SUBSCRIBE: Feed(3, [(0, how)] * 100).subscribe})
    async with connected(edge) as mesh:
        with pytest.raises(error):
            await first(follow_events(mesh, patience=quick(tries=3)), 1)
    assert len(edge.calls("Subscribe")) == 4


def turn_frames() -> list[TurnFrame]:
    """Return the frames of a turn with two pieces of text."""
    deltas = [
        TurnFrame(cursor=str(n), text_delta=TextDelta(step=1, offset_bytes=n - 1, text="x"))
        for n in (1, 2)
    ]
    return [*deltas, TurnFrame(cursor="3", completed=Turn(turn_id="trn_1"))]


@pytest.mark.parametrize("cut_after", [0, 1, 2])
@pytest.mark.parametrize("how", ["error", "end", "reconnect"])
async def test_turn_cut_in_the_middle_goes_on_to_its_terminal_frame(
    cut_after: int, how: str
) -> None:
    connections = 0

    async def watch(request: Any) -> AsyncGenerator[Message, None]:
        nonlocal connections
        connections += 1
        yield WatchTurnResponse(frame=TurnFrame(cursor=request.after, turn=Turn(turn_id="trn_1")))
        left = turn_frames()[int(request.after or 0) :]
        for number, frame in enumerate(left):
            if connections == 1 and number == cut_after:
                if how == "error":
                    raise Refused
                if how == "reconnect":
                    yield WatchTurnResponse(
                        frame=TurnFrame(
                            cursor=request.after or str(number), reconnect=StreamReconnect()
                        )
                    )
                return
            yield WatchTurnResponse(frame=frame)

    async with connected(Edge({WATCH_TURN: watch})) as mesh:
        kinds = await _kinds(mesh)
    assert kinds == ["turn", "text_delta", "text_delta", "completed"]
    assert connections == 2


async def _kinds(mesh: Gathering) -> list[str | None]:
    frames = follow_turn(mesh, "trn_1", patience=quick())
    return [frame.WhichOneof("frame") async for frame in frames]


async def test_task_watched_over_a_cut_shows_each_state_once() -> None:
    running = Task(task_id="tsk_1", state=TASK_STATE_RUNNING)
    done = Task(task_id="tsk_1", state=TASK_STATE_COMPLETED)
    connections = 0

    async def watch(request: Any) -> AsyncGenerator[Message, None]:
        nonlocal connections
        connections += 1
        yield WatchTaskResponse(task=running)
        if connections == 1:
            raise Refused
        yield WatchTaskResponse(task=done, end=True)

    async with connected(Edge({WATCH_TASK: watch})) as mesh:
        states = [task.state async for task in follow_task(mesh, "tsk_1", patience=quick())]
    assert states == [TASK_STATE_RUNNING, TASK_STATE_COMPLETED]


async def test_stream_whose_token_is_refused_begins_anew_with_another() -> None:
    async def watch(request: Any) -> AsyncGenerator[Message, None]:
        if edge.seen[-1].token == "Bearer t1":
            raise Refused(StatusCode.UNAUTHENTICATED)
        yield WatchTaskResponse(task=Task(task_id="tsk_1"), end=True)

    edge = Edge({WATCH_TASK: watch})
    async with connected(edge) as mesh:
        assert [task.task_id async for task in follow_task(mesh, "tsk_1")] == ["tsk_1"]
    assert [call.token for call in edge.calls("WatchTask")] == ["Bearer t1", "Bearer t2"]
