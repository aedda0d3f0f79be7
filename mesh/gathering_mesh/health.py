"""gRPC health whose watchers hear at once that a server goes, and do not hold up its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_ASKED_SECONDS = 2.0
Channel = Callable[[], grpc.aio.Channel]
Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # has no types
    """Answers for the server as a whole (an empty name) and for each of its services."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._closed = False
        self._elsewhere: Mapping[str, Channel] = {}

    def ask(self, services: Mapping[str, Channel]) -> None:
        """Answer checks of these services too, each by asking where it is served."""
        self._elsewhere = services

    def report(self, services: Iterable[str], status: int) -> None:
        """Change what is told of these services."""
        self._statuses |= dict.fromkeys(services, status)
        self._tell()

    def close(self) -> None:
        """End all watches: a server that stops waits for the calls that are in flight."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """Return how a service is; NOT_FOUND for one that is not served here."""
        channel = self._elsewhere.get(request.service)
        if channel is not None:
            return await _asked(channel(), request)
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this service is not served here")
        return health_pb2.HealthCheckResponse(status=self._statuses[request.service])

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Tell how a service is, and each change, until the server stops."""
        told: int | None = None
        while not self._closed:
            changed = self._changed
            status = self._statuses.get(request.service, _UNKNOWN)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            await changed.wait()


async def _asked(
    channel: grpc.aio.Channel, request: health_pb2.HealthCheckRequest
) -> health_pb2.HealthCheckResponse:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer: health_pb2.HealthCheckResponse = await stub.Check(request, timeout=_ASKED_SECONDS)
    except grpc.aio.AioRpcError:
        return health_pb2.HealthCheckResponse(status=_NOT_SERVING)
    return answer
