"""Streams of a turn under a proxy that cuts them: the text comes whole, no byte of it twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import replace

import grpc
import pytest

from gathering.agent.v1 import turn_pb2
from gathering.gateway.v1.auth_service_pb2 import Tokens
from gathering_client import Gathering
from gathering_client.streams import Patience, follow_turn
from gathering_mesh.client import CHANNEL_OPTIONS
from gathering_mesh.errors import DomainError
from tests.chaos.cuts.doors import Given
from tests.integration.agent.harness import Caller, Scripted, Service, texts
from tests.support.proxy import Cuts, running_proxy
from tests.support.waiting import eventually

CUTS = 30
LONG = " ".join(f"wörd{number}" for number in range(3000))
Watch = Callable[[int, Caller, str], Coroutine[None, None, list[turn_pb2.TurnFrame]]]
ENDS = frozenset({"completed", "failed", "cancelled"})


async def by_grpc(port: int, user: Caller, turn_id: str) -> list[turn_pb2.TurnFrame]:
    """Watch by gRPC; begin again after the last frame whenever the stream is cut."""
    frames: list[turn_pb2.TurnFrame] = []
    while not frames or frames[-1].WhichOneof("frame") not in ENDS:
        target = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS) as channel:
            proxied = replace(user, service=replace(user.service, channel=channel))
            after = frames[-1].cursor if frames else ""
            try:
                async for frame in proxied.watch(turn_id, after):
                    frames.append(frame)  # noqa: PERF401 (those before a cut are kept)
            except DomainError:
                await asyncio.sleep(0.01)  # as a client would
    return frames


async def by_client(port: int, user: Caller, turn_id: str) -> list[turn_pb2.TurnFrame]:
    """Watch by the Python client, which begins again by itself."""
    tokens = Tokens(access_token=dict(user.metadata())["authorization"].removeprefix("Bearer "))
    tokens.expire_time.FromSeconds(int(time.time() + 900))
    patience = Patience(tries=60, first_pause=0.01, longest_pause=0.1)
    async with (
        Gathering(f"http://127.0.0.1:{port}", Given(tokens)) as mesh,
        aclosing(follow_turn(mesh, turn_id, patience=patience)) as frames,
    ):
        return [frame async for frame in frames]


@pytest.mark.parametrize("watch", [by_grpc, by_client])
async def test_watched_turn_is_whole_however_often_its_stream_is_cut(
    service: Service, model: Scripted, watch: Watch
) -> None:
    model.gate.clear()
    user = service.caller()
    session = await user.session()
    turn = await user.start(session.session_id, LONG)
    assert service.app is not None
    cuts = Cuts(seed=3, left=CUTS, least=300, most=6_000)
    async with (
        running_proxy(service.app.server.port, cuts, stall=0.05) as proxy,
        asyncio.timeout(100),
    ):
        watching = asyncio.create_task(watch(proxy.port, user, turn.turn_id))
        await eventually(lambda: was_cut(cuts), "the first half is cut")
        model.gate.set()
        whole = [await watching]
        while cuts.left:  # the rest of the cuts falls on what is stored
            whole.append(await watch(proxy.port, user, turn.turn_id))
    text = (await user.turn(turn.turn_id)).text
    for frames in whole:
        assert frames[-1].WhichOneof("frame") == "completed"
        assert texts(frames)[1] == frames[-1].completed.text == text
    assert cuts.done.total() == CUTS


async def was_cut(cuts: Cuts) -> bool:
    return cuts.left < CUTS
