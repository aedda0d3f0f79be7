"""A service as a process: ready, told to go, gone; and what makes it end with an error."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.probe import ROOT


@asynccontextmanager
async def probe_process(mode: str, **environment: str) -> AsyncIterator[Process]:
    """Run the probe and kill it at the end where it still lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.probe_process", mode,
        cwd=ROOT, stderr=PIPE, env={"PATH": "", **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def logged(process: Process, event: str) -> dict[str, Any]:
    """Read the log until this event."""
    assert process.stderr is not None
    async for line in process.stderr:
        if not line.startswith(b"{"):
            continue  # gRPC's core writes plain lines of its own
        found: dict[str, Any] = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(f"the process ended without {event}")


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_process_told_to_go_leaves_rotation_drains_and_exits_with_zero(
    told: signal.Signals,
) -> None:
    async with probe_process("serve", GATHERING_NOT_READY_SECONDS="1") as process:
        port = (await logged(process, "serving"))["port"]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            ask = health_pb2.HealthCheckRequest()
            answer = await health.Check(ask, timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(told)
            await logged(process, "draining")
            answer = await health.Check(ask, timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await logged(process, "stopped")
        assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize(
    ("mode", "words"), [("crash", "the loop broke"), ("end", "ended by itself")]
)
async def test_background_work_that_fails_or_ends_ends_the_process_with_an_error(
    mode: str, words: str
) -> None:
    async with probe_process(mode) as process:
        ended = await logged(process, "ended")
        assert words in ended["exception"]
        assert await asyncio.wait_for(process.wait(), 20) == 1


async def test_port_that_is_taken_ends_the_process_with_an_error() -> None:
    async with probe_process("serve") as first:
        port = (await logged(first, "serving"))["port"]
        async with probe_process("serve", GATHERING_SERVER__PORT=str(port)) as second:
            ended = await logged(second, "ended")
            assert "cannot listen on" in ended["exception"]
            assert await asyncio.wait_for(second.wait(), 20) == 1
