"""A gRPC server for plain servicers: no gRPC context, no deserialising, no status codes in them."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gathering_mesh import local_call
from gathering_mesh.call import Closing
from gathering_mesh.health import Channel, Health
from gathering_mesh.pipeline import Pipeline
from gathering_mesh.reflection import Reflection
from gathering_mesh.routes import Route, routes
from gathering_mesh.settings import TRANSPORT_MARGIN, ServerSettings
from gathering_mesh.streams import Encoded, serialized
from gathering_mesh.tokens import Authenticator
from gathering_mesh.validation import Validator

LOOPS = "gathering.loops"  # health of the background work
METADATA_BYTES = 96 * 1024
_UNTAKEN = 300  # as long as calls without a deadline of their own have
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_HEALTH: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class GrpcServer:
    """Serves the services that are added to it, gRPC health and reflection.

    Life: `add` each service, `start`, `not_ready` when the process is told to go, `stop`.
    """

    def __init__(self, settings: ServerSettings, authenticator: Authenticator) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._validator = Validator()
        self._pipeline = Pipeline(settings, authenticator, self._validator)
        self._handlers: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        self._local: dict[str, Route] = {}
        self._health = Health()
        self._server: grpc.aio.Server | None = None
        self._port = 0
        self._ready = False
        self._elsewhere: Mapping[str, Channel] = {}
        self._pool: DescriptorPool | None = None
        self.closing = Closing()  # for streams of other kinds that the same process serves

    @property
    def port(self) -> int:
        """Return the port that is listened on; 0 before the start."""
        return self._port

    @property
    def ready(self) -> bool:
        """Tell whether calls should come here."""
        return self._ready

    @property
    def services(self) -> tuple[str, ...]:
        """Return the full names of the services that were added."""
        return tuple(self._handlers)

    def add(self, service: ServiceDescriptor, servicer: object) -> None:
        """Serve a service; ContractError where servicer or contract is incomplete."""
        found = list(routes(service, servicer, self._validator, self._settings.message_bytes))
        self._handlers[service.full_name] = {
            route.name: self._method_handler(route) for route in found
        }
        self._local |= {f"/{service.full_name}/{route.name}": route for route in found}

    def stream(
        self, path: str, request: bytes, metadata: local_call.Metadata
    ) -> AsyncGenerator[Message | Encoded, None]:
        """Call a stream of this server from its own process, as anybody would by gRPC."""
        route = self._local[path]
        context = local_call.LocalContext(route.read(request), metadata)
        return local_call.stream(functools.partial(self._pipeline.stream, route), context)

    def speak_for(self, services: Mapping[str, Channel], pool: DescriptorPool) -> None:
        """Answer health and reflection for services of other processes too; `pool` knows them."""
        pool.AddSerializedFile(health_pb2.DESCRIPTOR.serialized_pb)
        self._elsewhere = services
        self._pool = pool
        self._health.ask(services)

    def _method_handler(self, route: Route) -> grpc.RpcMethodHandler[Any, Any]:
        # A request comes as a stream of one message: a call that ends before a whole message is
        # never answered by handlers of the other kind.
        if route.unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                functools.partial(self._pipeline.unary, route),
                request_deserializer=route.read,
                response_serializer=route.response.SerializeToString,
            )
        return grpc.stream_stream_rpc_method_handler(
            functools.partial(self._pipeline.stream, route),
            request_deserializer=route.read,
            response_serializer=serialized,
        )

    async def start(self) -> None:
        """Listen and report SERVING; OSError if the address is taken."""
        self._server = server = grpc.aio.server(options=_options(self._settings))
        for name, handlers in self._handlers.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection:
            services = (*self._handlers, *self._elsewhere, _HEALTH)
            reflection = Reflection(services, self._authenticator, self._pool)
            server.add_generic_rpc_handlers(reflection.handlers())
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            self._port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}") from error
        await server.start()
        self._report(_SERVING)
        self.report_loops(going=True)

    async def not_ready(self) -> None:
        """Report NOT_SERVING while calls are still taken, so that routers look elsewhere."""
        self._report(_NOT_SERVING)

    def report_loops(self, *, going: bool) -> None:
        """Tell, as the health service `gathering.loops`, whether background work goes on.

        Readiness stays: calls that need no such work are still served, and to send them elsewhere
        would help nobody where all replicas have the same trouble.
        """
        self._health.report((LOOPS,), _SERVING if going else _NOT_SERVING)

    async def stop(self, grace: float = 10.0) -> None:
        """Take no more calls, ask streams to end, cancel what still runs after `grace` seconds."""
        if self._server is None:
            return
        await self.not_ready()
        self._pipeline.close_streams()
        self._health.close()
        self.closing.close("DRAINING")
        server, self._server = self._server, None
        await server.stop(grace)

    def _report(self, status: int) -> None:
        self._ready = status == _SERVING
        self._health.report(("", *self._handlers), status)


def _options(settings: ServerSettings) -> list[tuple[str, int]]:
    """Return the transport's options; each was seen to matter."""
    transport = settings.message_bytes + TRANSPORT_MARGIN
    return [
        ("grpc.so_reuseport", 0),  # or two servers share a port without any error
        ("grpc.max_receive_message_length", transport),
        ("grpc.max_send_message_length", transport),
        # Above what the edge lets through. By themselves they refuse some of 8 KiB by chance, and
        # all of 16 KiB, in words of their own.
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        # Seconds. Who waits longer to be taken is told CANCELLED, as if it had hung up; a thousand
        # streams that begin at once on a busy machine come close to the usual 30.
        ("grpc.server_max_unrequested_time_in_server", _UNTAKEN),
        ("grpc.max_connection_age_ms", round(settings.connection_age * 1000)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Not min_recv_ping_interval_without_data_ms, which has no effect.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
