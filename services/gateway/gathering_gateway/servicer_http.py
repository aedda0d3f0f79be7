"""The gateway's HTTP side, behind the edge: public keys, the contract, health, WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from gathering_gateway.envoy.models import TOO_LARGE_PATH
from gathering_gateway.websocket.servicer import Door
from gathering_gateway.websocket.servicer_protocol import BoundedProtocol
from gathering_mesh.server import GrpcServer
from gathering_mesh.settings import MEBIBYTE

_JWKS_AGE = 30  # seconds that caches may keep the keys
_RESOURCE_EXHAUSTED = 8
_MESSAGE_BYTES = 4 * MEBIBYTE  # of a request
_PING_SECONDS = 20.0
# A pong waits behind all that a slow reader has not read yet, so this is patient.
_PONG_SECONDS = 600.0

PublicKeys = Callable[[], Awaitable[list[dict[str, str]]]]


def http_app(
    keys: PublicKeys, openapi: bytes, descriptors: bytes, grpc: GrpcServer, door: Door
) -> Starlette:
    """Return the application; `openapi` and `descriptors` are the contract in two forms."""

    async def jwks(request: Request) -> Response:
        headers = {"cache-control": f"public, max-age={_JWKS_AGE}"}
        return JSONResponse({"keys": await keys()}, headers=headers)

    async def healthz(request: Request) -> Response:
        if grpc.ready:
            return JSONResponse({"status": "SERVING"})
        return JSONResponse({"status": "NOT_SERVING"}, status_code=503)

    return Starlette(
        routes=[
            Route("/.well-known/jwks.json", jwks),
            Route("/openapi.json", _document(openapi, "application/json")),
            Route("/descriptor.binpb", _document(descriptors, "application/x-protobuf")),
            Route("/healthz", healthz),
            WebSocketRoute("/ws", door.serve),
            Route(TOO_LARGE_PATH, _too_large, methods=["POST", "PUT", "PATCH", "DELETE", "GET"]),
        ],
        exception_handlers={404: _refused, 405: _refused},
    )


def _document(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that serves a document which clients may keep."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "public, max-age=300"}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return serve


async def _too_large(request: Request) -> Response:
    """Read a body to its end before it is refused: who still sends would see a reset instead."""
    async for _ in request.stream():
        pass
    size = request.headers.get("content-length", "")
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "MESSAGE_TOO_LARGE",
        "domain": "gathering",
        "metadata": {"request_id": request.headers.get("x-request-id", "")},
    }
    message = f"the body has {size} bytes; at most {_MESSAGE_BYTES} are allowed"
    body = {"code": _RESOURCE_EXHAUSTED, "message": message, "details": [info]}
    return JSONResponse(body, status_code=413)


async def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    return JSONResponse({"code": 5, "message": "there is nothing here"}, status_code=status)


class _Server(uvicorn.Server):
    """Leaves signals to the process, which drains gRPC first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class HttpSide:
    """A running HTTP server."""

    port: int
    ended: asyncio.Task[None]

    async def run(self) -> None:
        """Return or raise when the server ends, which it does not by itself."""
        await asyncio.shield(self.ended)


@contextlib.asynccontextmanager
async def serving(
    app: Starlette, host: str, port: int, frame_bytes: int
) -> AsyncIterator[HttpSide]:
    """Serve an application while the block runs. OSError if the address is taken.

    A WebSocket's message of more than `frame_bytes` is for the application to refuse by an answer;
    one of more than twice as many is not kept, and ends the connection.
    """
    config: dict[str, Any] = {
        "access_log": False,
        "log_config": None,
        "log_level": "warning",  # or it logs the query of each WebSocket, which may hold a token
        "lifespan": "off",
        "ws": BoundedProtocol,
        "ws_max_size": 2 * frame_bytes,
        "ws_per_message_deflate": False,
        "ws_ping_interval": _PING_SECONDS,
        "ws_ping_timeout": _PONG_SECONDS,
    }
    server = _Server(
        uvicorn.Config(app, timeout_graceful_shutdown=2, server_header=False, **config)
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=256) as listening:
        task = asyncio.create_task(server.serve([listening]))
        try:
            yield HttpSide(listening.getsockname()[1], task)
        finally:
            server.should_exit = True
            await asyncio.wait({task})


def to_json(document: object) -> bytes:
    """Return a document as it is served."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
