"""gRPC reflection for callers that are known: the contract is public, the server is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gathering_mesh.errors import DomainError
from gathering_mesh.status import to_wire
from gathering_mesh.tokens import Authenticator

# The messages of both are the same on the wire; clients ask for the newer one first.
NAMES = (reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")


class Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]  # ships no types
    """Answers `grpcurl list` and the like to whoever holds a good token."""

    def __init__(
        self,
        services: tuple[str, ...],
        authenticator: Authenticator,
        pool: DescriptorPool | None = None,
    ) -> None:
        """Describe these services; `pool` has their descriptors, by default those of Python."""
        super().__init__((*services, *NAMES), pool)
        self._authenticator = authenticator

    async def ServerReflectionInfo(
        self,
        requests: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Serve the RPC of that name."""
        metadata = dict(context.invocation_metadata() or ())
        try:
            await self._authenticator.known(
                {key: value for key, value in metadata.items() if isinstance(value, str)}
            )
        except DomainError as error:
            wire = to_wire(error, "")
            await context.abort(wire.code, wire.message, wire.metadata)
        async for response in super().ServerReflectionInfo(requests, context):
            yield response

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a server is given to serve it."""
        method = grpc.stream_stream_rpc_method_handler(
            self.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in NAMES
        )
