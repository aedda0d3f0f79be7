"""Streams of answers, seen from outside: how they end, and that they always do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from google.protobuf.message import Message

from gathering_mesh.call import Call
from gathering_mesh.client import peer
from gathering_mesh.errors import (
    NotFound,
    Unauthenticated,
)
from gathering_mesh.streams import until_closing
from gathering_mesh.tokens import ActorSigner
from tests.support.probe import (
    headers,
    request,
    response,
    running,
)


async def test_cancelled_stream_closes_its_generator() -> None:
    closed = asyncio.Event()

    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        try:
            while True:
                yield response("x")
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()))
        await stream.read()
        stream.cancel()
        await asyncio.wait_for(closed.wait(), 10)


async def test_reader_that_stops_stops_the_handler() -> None:
    sent = 0

    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        nonlocal sent
        while sent < 10_000:
            yield response("x" * 10_000)
            sent += 1

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()))
        await stream.read()
        before = -1
        while before != sent:  # until the windows are full
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 5_000
        stream.cancel()


async def test_stream_error_in_the_middle_is_a_status_with_its_reason() -> None:
    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        yield response("first")
        raise NotFound("gone", metadata={"resource": "x"})

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()), timeout=20)
        assert (await stream.read()).text == "first"
        with pytest.raises(NotFound) as caught, peer("probe"):
            await stream.read()
    assert caught.value.metadata["resource"] == "x"


async def _ticks() -> AsyncGenerator[Message, None]:
    while True:
        yield response("tick")
        await asyncio.sleep(0.02)


async def polite(_: Any, call: Call) -> AsyncGenerator[Message, None]:
    """Stream until asked to end, then say why."""
    async for tick in until_closing(call, _ticks()):
        yield tick
    yield response(f"reconnect {call.closing.reason}")


async def test_drain_lets_streams_say_goodbye_and_ends_them() -> None:
    async with running() as run:
        run.probe.on_watch = polite
        user = headers(user=run.authority.user())
        streams = [aiter(run.watch()(request(), metadata=user, timeout=30)) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        stopping = asyncio.create_task(run.server.stop(60))
        lasts = [[answer.text async for answer in stream][-1] for stream in streams]
        assert lasts == ["reconnect DRAINING"] * 3
        await asyncio.wait_for(stopping, 20)  # the grace period is a bound, not a wait


async def test_drain_is_bounded_for_handlers_that_do_not_end() -> None:
    ended = asyncio.Event()

    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        try:
            yield response("first")
            await asyncio.sleep(60)
        finally:
            ended.set()

    async with running() as run:
        run.probe.on_watch = handler
        stream = run.watch()(request(), metadata=headers(user=run.authority.user()), timeout=20)
        await stream.read()
        await asyncio.wait_for(run.server.stop(0.2), 10)
        await asyncio.wait_for(ended.wait(), 10)


async def test_stream_is_asked_to_end_with_its_token() -> None:
    async with running() as run:
        run.probe.on_watch = polite
        # Clocks may differ by 5 s, so a token that ended just now still opens a stream.
        token = run.authority.user(exp=int(time.time()) - 1)
        stream = run.watch()(request(), metadata=headers(user=token), timeout=20)
        texts = [answer.text async for answer in stream]
    assert texts[-1] == "reconnect TOKEN_EXPIRED"


async def test_stream_that_ignores_the_end_of_its_token_is_ended() -> None:
    async def handler(_: Any, __: Call) -> AsyncGenerator[Message, None]:
        while True:
            yield response("x")
            await asyncio.sleep(0.02)

    async with running(token_grace=0.5) as run:
        run.probe.on_watch = handler
        token = run.authority.user(exp=int(time.time()))
        stream = run.watch()(request(), metadata=headers(user=token), timeout=20)
        with pytest.raises(Unauthenticated) as caught, peer("probe"):
            async for _ in stream:
                pass
    assert caught.value.reason == "TOKEN_EXPIRED"


async def test_stream_of_a_service_outlives_the_token_that_opened_it() -> None:
    async def handler(_: Any, call: Call) -> AsyncGenerator[Message, None]:
        for _ in range(10):
            await asyncio.sleep(0.02)
            yield response(call.closing.reason)

    async with running(token_grace=0.001) as run:
        run.probe.on_watch = handler
        born = time.time() - ActorSigner.LIFETIME - 1
        signer = ActorSigner("agent", run.authority.actors["agent"], clock=lambda: born)
        stream = run.watch("Follow")(request(), metadata=headers(actor=signer.token()), timeout=20)
        assert [answer.text async for answer in stream] == [""] * 10
