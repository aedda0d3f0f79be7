"""Many chats with a slow provider, beside the provider's own SDK without a mesh.

Chats go on in sessions that exist, one behind the other, each with its first at another moment: so
many at once, not in one moment. The rate is what so many make in a second where each follows the
last (their number by the mean time of one), which the first and the last of them do not blur.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import openai
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering.agent.v1 import turn_pb2
from gathering.agent.v1 import turn_service_pb2 as pb
from tests.load.http2 import Connection, headers
from tests.load.plan import Plan
from tests.load.provider import seconds_of, sent_at
from tests.load.report import Row, rows
from tests.load.system import System, opened
from tests.load.timing import Figure, Sample, Side, compare, quantile
from tests.load.turns import chat

_STREAM = "/gathering.agent.v1.TurnService/StreamChat"
_BESIDE = "the SDK alone"
_HEALTH_PAUSE = 0.02
_ROUNDS = 2
_CHAT_SECONDS = 60.0
_QUESTION = "say hello"


@dataclass
class Heard:
    """The first text of each chat: how long after the question, and after the provider sent it."""

    asked: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)

    def take(self, text: str, begun: float, now: float) -> None:
        """Note the first text of a chat."""
        self.asked.append(now - begun)
        self.sent.append(now - sent_at(text))


Chat = Callable[[int, Heard], Awaitable[None]]  # place, where to note what was heard first


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return chats a second with models of 1 s and 200 ms, the first token, health meanwhile."""
    sdk = openai.AsyncOpenAI(api_key="bench", base_url=f"http://{system.provider}/v1")
    async with sdk, opened(system.mesh.address("agent")) as agent:
        found: list[Row] = []
        for at_once, model in ((64, "model-1000"), (64, "model-200"), (16, "model-1000")):
            chats = await Chats.open(system, model, at_once)
            times = 2 if plan.quick else 5
            found += await _compared(chats, asking(sdk, model), agent, at_once, times)
        return found


async def _compared(
    chats: Chats, bare: Chat, agent: grpc.aio.Channel, at_once: int, times: int
) -> list[Row]:
    seconds = seconds_of(chats.model)
    kept: dict[str, list[Heard]] = {"ours": [], "bare": []}
    health: list[list[float]] = []

    async def ours() -> Sample:
        kept["ours"].append(Heard())
        health.append([])
        async with chats.connected(), _probing(agent, health[-1]):
            return await in_turn(chats.one, at_once, times, seconds, kept["ours"][-1])

    async def alone() -> Sample:
        kept["bare"].append(Heard())
        return await in_turn(bare, at_once, times, seconds, kept["bare"][-1])

    sides = {"ours": Side(ours, chats.system.pids), "bare": Side(alone, [os.getpid()])}
    took = await compare(sides, _ROUNDS)
    figure = f"{at_once} at once, {1000 * seconds:.0f} ms each"
    found = rows("chats", figure, took["ours"], took["bare"], _BESIDE)
    for after, values in (
        ("the question", lambda heard: heard.asked),
        ("the provider's", lambda heard: heard.sent),
    ):
        of_ours, of_bare = (_figure(map(values, kept[side])) for side in ("ours", "bare"))
        name = f"{figure}: first token after {after}"
        found += rows("chats", name, of_ours, of_bare, _BESIDE, only="ms p50, ms p99")
    idle: list[float] = []
    async with _probing(agent, idle):
        await asyncio.sleep(1.0)
    pair = _figure(health).p99, quantile(idle, 0.99) * 1000
    return [*found, Row("chats", f"{figure}: agent's health", "ms p99", *pair, "when idle")]


def _figure(runs: Iterable[Sequence[float]]) -> Figure:
    """Return what was seen in all runs but the first, which is for warming up."""
    values = list(itertools.chain.from_iterable(itertools.islice(runs, 1, None)))
    return Figure(quantile(values, 0.5) * 1000, quantile(values, 0.99) * 1000, 0.0, 0.0)


async def in_turn(one: Chat, at_once: int, times: int, seconds: float, heard: Heard) -> Sample:
    """Make `times` chats at each of so many places; places begin spread over `seconds`."""
    sample = Sample()

    async def place(number: int) -> None:
        await asyncio.sleep(seconds * number / at_once)
        for _ in range(times):
            begun = time.perf_counter()
            async with asyncio.timeout(_CHAT_SECONDS):
                await one(number, heard)
            sample.latencies.append(time.perf_counter() - begun)

    async with asyncio.TaskGroup() as tasks:
        for number in range(at_once):
            tasks.create_task(place(number))
    sample.seconds = sum(sample.latencies) / at_once
    return sample


def asking(sdk: openai.AsyncOpenAI, model: str) -> Chat:
    """Return what asks the provider by its SDK."""

    async def one(_: int, heard: Heard) -> None:
        begun, first = time.perf_counter(), True
        stream = await sdk.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": _QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if first and chunk.choices and (text := chunk.choices[0].delta.content):
                heard.take(text, begun, time.perf_counter())
                first = False

    return one


@dataclass
class Chats:
    """Chats through the edge, read by a client that decodes next to nothing."""

    system: System
    model: str
    sessions: list[str]
    connection: Connection = field(init=False)

    @classmethod
    async def open(cls, system: System, model: str, at_once: int) -> Chats:
        """Make the sessions."""
        sessions = await system.sessions(at_once, f"openai/{model}")
        return cls(system, model, sessions)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Hold the connection for chats."""
        self.connection = await Connection.to(self.system.edge)
        try:
            yield
        finally:
            self.connection.close()

    async def one(self, place: int, heard: Heard) -> None:
        """Ask in the session of a place and read to the end; RuntimeError where it is no good."""
        head = headers(_STREAM, await self.system.metadata())
        asked = chat(self.sessions[place], _QUESTION).SerializeToString()
        begun, last, first = time.perf_counter(), b"", True

        def take(message: bytes, now: float) -> None:
            nonlocal last, first
            last = message
            if first and (text := _frame(message).text_delta.text):
                heard.take(text, begun, now)
                first = False

        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.connection.call(head, asked, take, ended.set_result)
        problem = await ended
        if not _frame(last).HasField("completed"):
            raise RuntimeError(f"a chat did not complete: {problem or _frame(last)}")


def _frame(message: bytes) -> turn_pb2.TurnFrame:
    return pb.StreamChatResponse.FromString(message).frame


@asynccontextmanager
async def _probing(agent: grpc.aio.Channel, took: list[float]) -> AsyncIterator[None]:
    """Ask the agent service for its health all the time."""
    stub = health_pb2_grpc.HealthStub(agent)

    async def probe() -> None:
        while True:
            begun = time.perf_counter()
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10.0)
            took.append(time.perf_counter() - begun)
            await asyncio.sleep(_HEALTH_PAUSE)

    task = asyncio.create_task(probe())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
