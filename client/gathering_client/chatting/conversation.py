"""A conversation with an agent: says something, follows the turn, ends it when asked to."""

import asyncio
import contextlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.field_mask_pb2 import FieldMask

from gathering.agent.v1 import (
    agent_pb2,
    agent_service_pb2,
    session_pb2,
    session_service_pb2,
    turn_pb2,
)
from gathering.agent.v1 import turn_service_pb2 as turn_service
from gathering_client.chatting.questions import Questions
from gathering_client.chatting.screen import Screen
from gathering_client.chatting.words import shortened
from gathering_client.connection import Gathering
from gathering_client.output import visible
from gathering_client.streams import TERMINAL_TURN_FRAMES, follow_turn

_TITLE = 60  # characters
_LARGEST_PICTURE = 2_500_000  # bytes; of all pictures of a message
_ENDED = (
    turn_pb2.TURN_STATE_COMPLETED,
    turn_pb2.TURN_STATE_FAILED,
    turn_pb2.TURN_STATE_CANCELLED,
)


@dataclass
class Conversation:
    """A session that somebody talks in.

    `asks`: questions of the agent are put to them. `pictures` go with what is said next.
    `strategy`: how much of before the model is shown; not given: as the session says.
    """

    mesh: Gathering
    screen: Screen
    session: session_pb2.Session
    agent: agent_pb2.Agent
    asks: bool = True
    pictures: list[bytes] = field(default_factory=list)
    strategy: session_pb2.ResumeStrategy.ValueType = session_pb2.RESUME_STRATEGY_UNSPECIFIED

    @classmethod
    async def open(
        cls, mesh: Gathering, screen: Screen, session: session_pb2.Session, *, asks: bool
    ) -> "Conversation":
        """Return the conversation of a session."""
        request = agent_service_pb2.GetAgentRequest(agent_id=session.agent_id)
        return cls(mesh, screen, session, await mesh.agents.GetAgent(request), asks)

    async def say(self, text: str) -> turn_pb2.Turn:
        """Say something and show the turn to its end; Ctrl-C cancels it, a second one leaves.

        What is said first in a session without a title gives it one.
        """
        if not (self.session.title or self.session.message_count):
            await self.entitle(shortened(" ".join(visible(text).split()), _TITLE))
        request = turn_service.StartTurnRequest(
            request_id=uuid.uuid4().hex,
            session_id=self.session.session_id,
            text=text,
            if_busy=turn_pb2.IF_BUSY_QUEUE,
            images=[session_pb2.ImageInput(data=picture) for picture in self.pictures],
            resume_strategy=self.strategy,
        )
        with interrupts() as interrupted:
            turn = await self.mesh.turns.StartTurn(request)
            self.pictures.clear()
            return await self._followed(turn.turn_id, interrupted)

    def show_picture(self, name: str) -> None:
        """Have a picture go with what is said next; OSError, ValueError where it is too large."""
        file = Path(name).expanduser()
        if file.stat().st_size > _LARGEST_PICTURE:
            raise ValueError(f"{file} is larger than {_LARGEST_PICTURE} bytes")
        self.pictures.append(file.read_bytes())

    async def follow(self, turn_id: str) -> turn_pb2.Turn:
        """Show a turn that runs to its end; likewise."""
        with interrupts() as interrupted:
            return await self._followed(turn_id, interrupted)

    async def living(self) -> turn_pb2.Turn | None:
        """Return the turn of the session that has not ended, if there is one."""
        last = await self.last_turn()
        return last if last is not None and last.state not in _ENDED else None

    async def last_turn(self) -> turn_pb2.Turn | None:
        """Return the last turn of the session, if there is one."""
        request = turn_service.ListTurnsRequest(session_id=self.session.session_id, page_size=1)
        turns = (await self.mesh.turns.ListTurns(request)).turns
        return turns[0] if turns else None

    async def cancel(self, turn_id: str) -> None:
        """Cancel a turn."""
        await self.mesh.turns.CancelTurn(turn_service.CancelTurnRequest(turn_id=turn_id))

    async def entitle(self, title: str) -> None:
        """Give the session a title."""
        request = session_service_pb2.UpdateSessionRequest(
            session_id=self.session.session_id,
            session=session_pb2.Session(title=title),
            update_mask=FieldMask(paths=["title"]),
        )
        self.session = await self.mesh.sessions.UpdateSession(request)

    async def refresh(self) -> None:
        """Read the session again."""
        request = session_service_pb2.GetSessionRequest(session_id=self.session.session_id)
        self.session = await self.mesh.sessions.GetSession(request)

    async def _followed(self, turn_id: str, interrupted: asyncio.Event) -> turn_pb2.Turn:
        questions = Questions(self.mesh, self.screen, asks=self.asks)
        beside = [
            asyncio.create_task(questions.watch(turn_id)),
            asyncio.create_task(self._cancel_when(interrupted, turn_id)),
        ]
        try:
            return await self._shown(turn_id, questions)
        finally:
            self.screen.pause()
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _shown(self, turn_id: str, questions: Questions) -> turn_pb2.Turn:
        async for frame in follow_turn(self.mesh, turn_id):
            kind = str(frame.WhichOneof("frame"))
            if kind == "tool_results":
                await questions.tools_ended()
            self.screen.show(frame)
            if kind == "step" and frame.step.tool_calls:
                questions.tools_run()
            if kind in TERMINAL_TURN_FRAMES:
                ended: turn_pb2.Turn = getattr(frame, kind)
                return ended
        raise AssertionError("a turn that is followed has an end")

    async def _cancel_when(self, interrupted: asyncio.Event, turn_id: str) -> None:
        await interrupted.wait()
        self.screen.note("cancelling; Ctrl-C again leaves", "yellow")
        await self.cancel(turn_id)


@contextlib.contextmanager
def interrupts() -> Iterator[asyncio.Event]:
    """Yield what the first Ctrl-C sets; the second one ends the task, as KeyboardInterrupt."""
    interrupted, task = asyncio.Event(), asyncio.current_task()
    left = False

    def on_interrupt() -> None:
        nonlocal left
        if interrupted.is_set() and task is not None:
            left = True
            task.cancel()
        interrupted.set()

    with _handling(on_interrupt):
        try:
            yield interrupted
        except asyncio.CancelledError:
            if left:
                raise KeyboardInterrupt from None
            raise


@contextlib.contextmanager
def _handling(on_interrupt: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
