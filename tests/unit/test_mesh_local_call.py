"""A process that calls its own streams: answers in order, errors as by gRPC, and an end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value

from gathering_mesh.local_call import LocalContext, stream


def context() -> LocalContext:
    return LocalContext(Int32Value(), (("name", "value"),))


async def test_answers_come_in_order_and_wait_to_be_taken() -> None:
    given = context()
    written: list[int] = []

    async def handler(requests: object, context: Any) -> None:
        for number in range(10):
            await context.write(Int32Value(value=number))
            written.append(number)

    answers = stream(handler, given)
    first: Any = await anext(answers)
    assert first.value == 0
    assert len(written) <= 2
    assert [answer.value async for answer in answers] == [*range(1, 10)]  # type: ignore[union-attr]  # no Encoded


async def test_call_that_fails_raises_what_grpc_would_after_its_answers() -> None:
    async def handler(requests: object, context: Any) -> None:
        await context.write(Int32Value(value=1))
        await context.abort(grpc.StatusCode.NOT_FOUND, "not here", (("key", b"details"),))

    answers = stream(handler, context())
    await anext(answers)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await anext(answers)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert ("key", b"details") in tuple(caught.value.trailing_metadata())


@pytest.mark.parametrize("taken", [0, 1])
async def test_caller_that_leaves_ends_the_handler_whatever_waits(taken: int) -> None:
    ended = asyncio.Event()

    async def handler(requests: object, context: Any) -> None:
        try:
            while True:
                await context.write(Int32Value())
        finally:
            ended.set()

    answers = stream(handler, context())
    for _ in range(1 + taken):
        await anext(answers)
    async with asyncio.timeout(10):
        await answers.aclose()
    assert ended.is_set()
