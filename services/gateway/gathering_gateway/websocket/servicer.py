"""Serves `/ws`: who may open a connection, and how many there may be."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from gathering_gateway.websocket import convert
from gathering_gateway.websocket.models import SUBPROTOCOL, TOKEN_PREFIX, Gone, Limits, Visitor
from gathering_gateway.websocket.ports import Answers
from gathering_gateway.websocket.servicer_connection import Connection
from gathering_mesh.call import Closing
from gathering_mesh.errors import DomainError, ResourceExhausted, Unauthenticated
from gathering_mesh.ids import new_id
from gathering_mesh.pipeline import REQUEST_ID, TRACEPARENT
from gathering_mesh.telemetry import child_trace
from gathering_mesh.tokens import AUTHORIZATION, Authenticator

_log = logging.getLogger(__name__)
_LONGEST_REQUEST_ID = 100  # services take 128 characters
_QUERY_TOKEN = "access_token"  # noqa: S105 - the name of a parameter


class Door:
    """Lets clients in by their token and serves each."""

    def __init__(
        self, authenticator: Authenticator, answers: Answers, draining: Closing, limits: Limits
    ) -> None:
        self._authenticator = authenticator
        self._answers = answers
        self._draining = draining
        self._limits = limits
        self._open: Counter[str] = Counter()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client, from its handshake on."""
        request_id = _request_id(websocket.headers.get(REQUEST_ID, ""))
        try:
            visitor = await self._visitor(websocket, request_id)
            with self._place(visitor):
                await self._converse(websocket, visitor)
        except DomainError as error:
            _log.info("websocket refused: %s", error.reason)
            await websocket.send_denial_response(_denial(error, request_id))

    async def _visitor(self, websocket: WebSocket, request_id: str) -> Visitor:
        principal = await self._authenticator.subject(_token(websocket))
        return Visitor(
            user=principal.user,
            token=principal.token,
            expires_at=principal.expires_at,
            request_id=request_id,
            trace=child_trace(websocket.headers.get(TRACEPARENT)),
        )

    @contextmanager
    def _place(self, visitor: Visitor) -> Iterator[None]:
        """Count a connection; ResourceExhausted where there are too many."""
        limits = self._limits
        if self._open.total() >= limits.connections:
            raise ResourceExhausted("too many WebSockets are open", reason="OVERLOADED")
        if self._open[visitor.user] >= limits.connections_of_user:
            most = limits.connections_of_user
            raise ResourceExhausted(f"{most} WebSockets of this user are open")
        self._open[visitor.user] += 1
        try:
            yield
        finally:
            self._open[visitor.user] -= 1
            if not self._open[visitor.user]:
                del self._open[visitor.user]

    async def _converse(self, websocket: WebSocket, visitor: Visitor) -> None:
        offered = websocket.scope["subprotocols"]
        await websocket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        connection = Connection(_Socket(websocket), visitor, self._answers, self._limits)
        started = asyncio.get_running_loop().time()
        try:
            await connection.serve(self._draining)
        finally:
            seconds = asyncio.get_running_loop().time() - started
            _log.info(
                "websocket ended: request_id=%s calls=%d seconds=%.1f",
                visitor.request_id, connection.count, seconds,
            )  # fmt: skip


def _request_id(given: str) -> str:
    """Return the edge's id, which calls get with a number behind it, or one of our own."""
    usable = given.isascii() and given.isprintable() and 0 < len(given) <= _LONGEST_REQUEST_ID
    return given if usable else new_id("req")


def _token(websocket: WebSocket) -> str:
    """Return the user's token from the header, a subprotocol or the query, in this order."""
    header = websocket.headers.get(AUTHORIZATION, "")
    kind, _, token = header.partition(" ")
    if kind.lower() == "bearer" and token:
        return token
    for offered in websocket.scope["subprotocols"]:
        if offered.startswith(TOKEN_PREFIX):
            return str(offered.removeprefix(TOKEN_PREFIX))
    found = websocket.query_params.get(_QUERY_TOKEN)
    if not found:
        raise Unauthenticated("a user's token is needed", reason="TOKEN_MISSING")
    return found


def _denial(error: DomainError, request_id: str) -> Response:
    status = 429 if isinstance(error, ResourceExhausted) else 401
    body = convert.error_json(error, request_id)
    return Response(body, status_code=status, media_type="application/json")


class _Socket:
    """Starlette's WebSocket as a connection wants it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | bytes:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Gone
        found: str | bytes | None = message.get("text")
        return bytes(message["bytes"]) if found is None else found

    async def send(self, text: str) -> None:
        try:
            await self._websocket.send_text(text)
        except (WebSocketDisconnect, RuntimeError) as error:  # the latter after its close
            raise Gone from error

    async def close(self, code: int, reason: str) -> None:
        try:
            await self._websocket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError) as error:
            raise Gone from error
