"""Callers who insist: each asks until it is answered, under one request id, and remembers it."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gathering.agent.v1 import agent_service_pb2 as agents
from gathering.agent.v1 import session_service_pb2 as sessions
from gathering.agent.v1 import turn_pb2
from gathering.agent.v1 import turn_service_pb2 as turns
from gathering.memory.v1 import memory_pb2
from gathering.memory.v1 import memory_service_pb2 as memories
from gathering.orchestrator.v1 import task_pb2
from gathering.orchestrator.v1 import task_service_pb2 as tasks
from gathering.skills.v1 import execution_pb2
from gathering.skills.v1 import execution_service_pb2 as executions
from gathering_client import Gathering, GatheringError, cast
from tests.chaos.world import World
from tests.e2e.makers import Maker, struct

T = TypeVar("T")
# Answers that say nothing of the request: it is made again. INTERNAL is none of them.
PASSING = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"}
)
_PAUSE = 0.25
_TIMEOUT = 10.0
_SAYINGS = (
    "remember that the lamp in room {n} is broken",
    "list the files",
    "what are the largest files?",
    "what do you know about the lamp?",
)
_TABLES = {
    "agent": ("agent", "agents"),
    "session": ("agent", "sessions"),
    "turn": ("agent", "turns"),
    "memory": ("memory", "memory"),
    "execution": ("skills", "executions"),
    "task": ("orchestrator", "tasks"),
}
_LIVE_TURNS = (turn_pb2.TURN_STATE_QUEUED, turn_pb2.TURN_STATE_RUNNING)
_LIVE_EXECUTIONS = (
    execution_pb2.EXECUTION_STATE_REQUESTED,
    execution_pb2.EXECUTION_STATE_RUNNING,
)
_TASK_ENDS = (
    task_pb2.TASK_STATE_COMPLETED,
    task_pb2.TASK_STATE_FAILED,
    task_pb2.TASK_STATE_CANCELLED,
    task_pb2.TASK_STATE_ESCALATED,
)


@dataclass
class Load:
    """Work for a mesh, in one workspace; `run` it, `pause` it to look at what was done."""

    mesh: Gathering
    workspace_id: str
    circle: cast.Cast
    folder: Path
    chance: random.Random
    ended: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    acknowledged: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    files: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: int = 0

    async def run(self, callers: int = 2) -> None:
        """Ask for everything, each kind by so many at once, until cancelled."""
        self._open.set()
        kinds = (self._mutate, self._execute, self._chat)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._task))
            for kind in kinds * callers:
                group.create_task(self._repeat(kind))

    async def _repeat(self, kind: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await self._open.wait()
            self._busy += 1
            try:
                await kind()
            except GatheringError as error:
                self.faults.append(f"{kind.__name__}: {error.status} {error}")
            finally:
                self._busy -= 1

    async def pause(self, seconds: float) -> None:
        """Begin nothing more and wait until everything that was begun is answered."""
        self._open.clear()
        async with asyncio.timeout(seconds):
            while self._busy:  # noqa: ASYNC110 - a number of tasks, not one event
                await asyncio.sleep(_PAUSE)

    def go_on(self) -> None:
        """Begin again."""
        self._open.set()

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except GatheringError as error:
                self.refused[error.status] += 1
                if error.status not in PASSING:
                    raise
                await asyncio.sleep(_PAUSE)

    async def _twice(self, kind: str, name: str, ask: Callable[[], Awaitable[Any]]) -> str:
        """Ask until answered and, now and then, once more; the answer is the same thing."""
        made = str(getattr(await self._insist(ask), name))
        self.acknowledged[kind].add(made)
        if self.chance.random() < 0.5:
            again = str(getattr(await self._insist(ask), name))
            if again != made:
                self.faults.append(f"{kind}: {made}, then {again}")
        return made

    async def _mutate(self) -> None:
        maker = Maker(self.mesh, "")
        agent = agents.CreateAgentRequest(request_id=_key(), agent=maker.described())
        agent_id = await self._twice(
            "agent", "agent_id", lambda: self.mesh.agents.CreateAgent(agent, timeout=_TIMEOUT)
        )
        scope = memory_pb2.Scope(kind=memory_pb2.SCOPE_KIND_PRIVATE)
        memory = memories.RememberRequest(request_id=_key(), text=maker.text("fact"), scope=scope)
        await self._twice(
            "memory", "memory_id", lambda: self.mesh.memories.Remember(memory, timeout=_TIMEOUT)
        )
        archive = agents.ArchiveAgentRequest(request_id=_key(), agent_id=agent_id)
        await self._twice(
            "agent", "agent_id", lambda: self.mesh.agents.ArchiveAgent(archive, timeout=_TIMEOUT)
        )
        self.ended["mutations"] += 3

    async def _execute(self) -> None:
        tool = self.chance.choice(("witness_once", "witness_keyed", "fs_write"))
        request = executions.ExecuteRequest(request_id=_key(), tool=tool)
        path, content = f"out/{uuid.uuid4().hex}", uuid.uuid4().hex
        if tool == "fs_write":
            request.arguments.CopyFrom(struct(path=path, content=content))
            request.workspace_id = self.workspace_id
        while True:
            done = await self._insist(
                lambda: self.mesh.executions.Execute(request, timeout=_TIMEOUT)
            )
            self.acknowledged["execution"].add(done.execution_id)
            if done.state not in _LIVE_EXECUTIONS:
                break
            await asyncio.sleep(_PAUSE)
        state = execution_pb2.ExecutionState.Name(done.state).removeprefix("EXECUTION_STATE_")
        self.ended[f"executions {tool} {state.lower()}"] += 1
        if tool == "fs_write" and done.state == execution_pb2.EXECUTION_STATE_DONE:
            self.files[path] = content

    async def _chat(self) -> None:
        agent_id = self.chance.choice(list(self.circle.agents.values())).agent_id
        session = sessions.CreateSessionRequest(
            request_id=_key(), agent_id=agent_id, workspace_id=self.workspace_id
        )
        session_id = await self._twice(
            "session",
            "session_id",
            lambda: self.mesh.sessions.CreateSession(session, timeout=_TIMEOUT),
        )
        text = self.chance.choice(_SAYINGS).format(n=self.chance.randrange(1_000_000))
        start = turns.StartTurnRequest(request_id=_key(), session_id=session_id, text=text)
        turn_id = await self._twice(
            "turn", "turn_id", lambda: self.mesh.turns.StartTurn(start, timeout=_TIMEOUT)
        )
        asked = turns.GetTurnRequest(turn_id=turn_id)
        while True:
            turn = await self._insist(lambda: self.mesh.turns.GetTurn(asked, timeout=_TIMEOUT))
            if turn.state not in _LIVE_TURNS:
                break
            await asyncio.sleep(_PAUSE)
        state = turn_pb2.TurnState.Name(turn.state).removeprefix("TURN_STATE_").lower()
        self.ended[f"turns {state}"] += 1

    async def _task(self) -> None:
        request = tasks.CreateTaskRequest(
            request_id=_key(),
            circle_id=self.circle.circle_id,
            title=f"Describe the structure of this code base in {cast.STRUCTURE}",
            description=f"Show the tree of the workspace and its sizes. Write {cast.STRUCTURE}.",
            acceptance_criteria=[f"{cast.STRUCTURE} exists."],
            required_competences=["python"],
        )
        task_id = await self._twice(
            "task", "task_id", lambda: self.mesh.tasks.CreateTask(request, timeout=_TIMEOUT)
        )
        asked = tasks.GetTaskRequest(task_id=task_id)
        while True:
            task = await self._insist(lambda: self.mesh.tasks.GetTask(asked, timeout=_TIMEOUT))
            if task.state in _TASK_ENDS:
                break
            await asyncio.sleep(_PAUSE)
        state = task_pb2.TaskState.Name(task.state).removeprefix("TASK_STATE_").lower()
        self.ended[f"tasks {state}"] += 1
        if task.state != task_pb2.TASK_STATE_COMPLETED:
            self.faults.append(f"{task_id} {state}: {task.state_message}")

    def contradictions(self, world: World) -> Iterator[str]:
        """Yield what was answered and is not so."""
        yield from self.faults
        for kind, ids in self.acknowledged.items():
            service, table = _TABLES[kind]
            stored = {row["id"] for row in world.get(service).tables[table]}
            yield from (f"{kind} {name}: was acknowledged and is gone" for name in ids - stored)
        for path, content in self.files.items():
            file = self.folder / path
            if not file.exists() or file.read_text() != content:
                yield f"{path}: was acknowledged as written and is not"


def _key() -> str:
    return uuid.uuid4().hex
