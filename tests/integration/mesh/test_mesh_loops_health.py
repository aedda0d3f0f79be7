"""Health tells of background work that fails for long, and of its return."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering_mesh.errors import Unavailable
from gathering_mesh.keys import keys_of
from gathering_mesh.loops import forever
from gathering_mesh.process import watch_loops
from gathering_mesh.server import LOOPS, GrpcServer
from gathering_mesh.settings import ServerSettings
from gathering_mesh.tokens import Authenticator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_loops_that_fail_for_long_are_not_serving_until_they_recover() -> None:
    broken, told, ready = asyncio.Event(), [], None
    broken.set()

    async def step() -> None:
        if broken.is_set():
            raise Unavailable("the database is gone")
        await asyncio.sleep(0.01)

    server = GrpcServer(ServerSettings(), Authenticator(keys_of(dict), keys_of(dict)))
    await server.start()
    tasks = [
        asyncio.create_task(forever("move events", step, most=0.1)),
        asyncio.create_task(watch_loops(server, after=0.3, every=0.05)),
    ]
    try:
        async with (
            asyncio.timeout(30),
            grpc.aio.insecure_channel(
                f"127.0.0.1:{server.port}", options=[("grpc.enable_http_proxy", 0)]
            ) as channel,
        ):
            stub = health_pb2_grpc.HealthStub(channel)
            async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=LOOPS)):
                told.append(answer.status)
                if answer.status == NOT_SERVING:
                    ready = await stub.Check(health_pb2.HealthCheckRequest())
                    broken.clear()
                if told.count(SERVING) == 2:
                    break
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await server.stop(0.2)
    assert told == [SERVING, NOT_SERVING, SERVING]
    assert ready is not None
    assert ready.status == SERVING, "calls are served all the while"
