"""Many chats with a slow provider, beside the provider's own SDK without a mesh."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import openai
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering.agent.v1 import turn_service_pb2 as pb
from tests.load.plan import Plan
from tests.load.report import Row, rows
from tests.load.system import System, opened, raw
from tests.load.timing import Sample, Side, closed_loop, compare, quantile
from tests.load.turns import CHAT, chat

_STREAM = "/gathering.agent.v1.TurnService/StreamChat"
_BESIDE = "the SDK alone"
_AT_ONCE, _FIRST_AT_ONCE = 64, 16
_HEALTH_PAUSE = 0.02
_ROUNDS = 2
_QUESTION = "say hello"


async def measure(system: System, plan: Plan) -> list[Row]:
    """Return chats a second with models of 1 s and 200 ms, the first token, health meanwhile."""
    sdk = openai.AsyncOpenAI(api_key="bench", base_url=f"http://{system.provider}/v1")
    async with sdk:
        return [
            *await _throughput(system, plan, sdk, "model-1000"),
            *await _throughput(system, plan, sdk, "model-200"),
            *await _first_token(system, plan, sdk),
        ]


async def _throughput(system: System, plan: Plan, sdk: openai.AsyncOpenAI, model: str) -> list[Row]:
    times = 1 if plan.quick else 2
    health: list[float] = []

    async def ours() -> Sample:
        sessions = await system.sessions(_AT_ONCE, f"openai/{model}")
        send = raw(system.channel, CHAT, await system.metadata())

        async def turn(place: int) -> None:
            await send(chat(sessions[place], _QUESTION).SerializeToString())

        async with _probing(system, health):
            return await closed_loop(turn, times * _AT_ONCE, _AT_ONCE)

    async def bare() -> Sample:
        return await closed_loop(lambda _: _ask(sdk, model), times * _AT_ONCE, _AT_ONCE)

    sides = {"ours": Side(ours, system.pids()), "bare": Side(bare, [os.getpid()])}
    took = await compare(sides, _ROUNDS)
    figure = f"{_AT_ONCE} at once, {model.removeprefix('model-')} ms each"
    found = rows("chats", figure, took["ours"], took["bare"], _BESIDE)
    idle: list[float] = []
    async with _probing(system, idle):
        await asyncio.sleep(1.0)
    worst, usual = (quantile(each, 0.99) * 1000 for each in (health, idle))
    found.append(Row("chats", f"{figure}: agent's health", "ms p99", worst, usual, "when idle"))
    return found


async def _first_token(system: System, plan: Plan, sdk: openai.AsyncOpenAI) -> list[Row]:
    model, count = "model-200", plan.count(160)

    async def ours() -> Sample:
        sessions = await system.sessions(_FIRST_AT_ONCE, f"openai/{model}")
        metadata = await system.metadata()
        return await _firsts(
            lambda place: _first_delta(system.channel, sessions[place], metadata), count
        )

    async def bare() -> Sample:
        return await _firsts(lambda _: _ask(sdk, model), count)

    sides = {"ours": Side(ours, system.pids()), "bare": Side(bare, [os.getpid()])}
    took = await compare(sides, _ROUNDS)
    figure = f"{_FIRST_AT_ONCE} at once, first token"
    return rows("chats", figure, took["ours"], took["bare"], _BESIDE, only="ms p50, ms p99")


async def _firsts(ask: Callable[[int], Awaitable[float]], count: int) -> Sample:
    """Time to each first token; `ask` returns it when all is read."""
    firsts: list[float] = []

    async def work(place: int) -> None:
        firsts.append(await ask(place))

    sample = await closed_loop(work, count, _FIRST_AT_ONCE)
    sample.latencies = firsts
    return sample


async def _ask(sdk: openai.AsyncOpenAI, model: str) -> float:
    """Read an answer to its end; return after how many seconds its first text came."""
    begun, first = time.perf_counter(), 0.0
    stream = await sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": _QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    async for chunk in stream:
        if not first and chunk.choices and chunk.choices[0].delta.content:
            first = time.perf_counter() - begun
    return first


async def _first_delta(channel: grpc.aio.Channel, session: str, metadata: Any) -> float:
    begun, first = time.perf_counter(), 0.0
    rpc: Any = channel.unary_stream(_STREAM, response_deserializer=pb.StreamChatResponse.FromString)
    asked = pb.StreamChatRequest(request_id=chat(session).request_id, session_id=session)
    asked.text = _QUESTION
    async for answer in rpc(asked.SerializeToString(), metadata=metadata, timeout=60):
        if not first and answer.frame.HasField("text_delta"):
            first = time.perf_counter() - begun
    return first


@asynccontextmanager
async def _probing(system: System, took: list[float]) -> AsyncIterator[None]:
    """Ask the agent service for its health all the time."""
    async with opened(system.mesh.address("agent")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

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
