"""A connection to the mesh through its edge."""

import functools
import json
import uuid
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from gathering.agent.v1 import (
    agent_service_pb2,
    agent_service_pb2_grpc,
    budget_service_pb2,
    budget_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from gathering.gateway.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    auth_service_pb2,
    auth_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
    invitation_service_pb2,
    invitation_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)
from gathering.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from gathering.orchestrator.v1 import (
    circle_service_pb2,
    circle_service_pb2_grpc,
    task_service_pb2,
    task_service_pb2_grpc,
)
from gathering.skills.v1 import (
    execution_service_pb2,
    execution_service_pb2_grpc,
    skill_service_pb2,
    skill_service_pb2_grpc,
    workspace_service_pb2,
    workspace_service_pb2_grpc,
)
from gathering_client.errors import GatheringError, readable_errors
from gathering_client.login import Credentials, TokenSource

Stub = TypeVar("Stub")

DEFAULT_TIMEOUT = 30.0  # seconds, of a unary call
_MESSAGE_BYTES = 16 * 1024 * 1024
_CONTRACT = (
    agent_service_pb2, model_service_pb2, session_service_pb2, turn_service_pb2,
    auth_service_pb2, event_service_pb2, memory_service_pb2, circle_service_pb2,
    task_service_pb2, execution_service_pb2, skill_service_pb2, workspace_service_pb2,
    audit_service_pb2, invitation_service_pb2, user_service_pb2, budget_service_pb2,
)  # fmt: skip


def _service_config() -> str:
    """Retry unary calls: each mutation has a request_id (see `named`), so nothing happens twice.

    Streams are left to `gathering_client.streams`, which knows where to go on.
    """
    unary = [
        {"service": service.full_name, "method": method.name}
        for module in _CONTRACT
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.server_streaming
    ]
    retry = {
        "maxAttempts": 5,
        "initialBackoff": "0.2s",
        "maxBackoff": "5s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": unary, "retryPolicy": retry}]})


_OPTIONS = (
    ("grpc.service_config", _service_config()),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


class Gathering:
    """The services of a mesh as typed stubs; an async context manager.

    Calls raise GatheringError. A unary call has 30 s unless it says `timeout=`; a stream has no
    limit unless it says one.
    """

    def __init__(self, url: str, credentials: Credentials, *, roots: bytes | None = None) -> None:
        """Describe the connection; nothing is sent before the first call.

        Args:
            url: of the edge, such as `http://127.0.0.1:8080`; https takes TLS.
            credentials: how to log in.
            roots: PEM certificates to trust instead of the system's.

        """
        self.url = url.rstrip("/")
        self._channel = _channel(self.url, roots)
        plain = auth_service_pb2_grpc.AuthServiceStub(self._channel)
        self._tokens = TokenSource(_readable(plain), credentials)

        self.auth = self._authorized(plain)
        make = self._channel
        self.agents = self._authorized(agent_service_pb2_grpc.AgentServiceStub(make))
        self.sessions = self._authorized(session_service_pb2_grpc.SessionServiceStub(make))
        self.turns = self._authorized(turn_service_pb2_grpc.TurnServiceStub(make))
        self.models = self._authorized(model_service_pb2_grpc.ModelServiceStub(make))
        self.budgets = self._authorized(budget_service_pb2_grpc.BudgetServiceStub(make))
        self.memories = self._authorized(memory_service_pb2_grpc.MemoryServiceStub(make))
        self.skills = self._authorized(skill_service_pb2_grpc.SkillServiceStub(make))
        self.executions = self._authorized(execution_service_pb2_grpc.ExecutionServiceStub(make))
        self.workspaces = self._authorized(workspace_service_pb2_grpc.WorkspaceServiceStub(make))
        self.circles = self._authorized(circle_service_pb2_grpc.CircleServiceStub(make))
        self.tasks = self._authorized(task_service_pb2_grpc.TaskServiceStub(make))
        self.users = self._authorized(user_service_pb2_grpc.UserServiceStub(make))
        self.invitations = self._authorized(invitation_service_pb2_grpc.InvitationServiceStub(make))
        self.audit = self._authorized(audit_service_pb2_grpc.AuditServiceStub(make))
        self.events = self._authorized(event_service_pb2_grpc.EventServiceStub(make))

    async def __aenter__(self) -> Self:
        """Return the connection; it opens with the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self._channel.close()

    async def token(self) -> str:
        """Return an access token for `authorization: Bearer ...`; logs in if need be."""
        return await self._tokens.token()

    @property
    def refresh_token(self) -> str:
        """Return the refresh token that is valid now; empty before the first call."""
        return self._tokens.refresh_token

    def _authorized(self, stub: Stub) -> Stub:
        return cast("Stub", _Stub(stub, self._tokens))


class _Stub:
    """A stub whose calls carry the token and raise GatheringError."""

    def __init__(self, stub: object, tokens: TokenSource | None) -> None:
        self._stub = stub
        self._tokens = tokens

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._stub, name)
        if isinstance(method, grpc.aio.UnaryStreamMultiCallable):
            return functools.partial(self._stream, method)
        return functools.partial(self._unary, method)

    async def _unary(self, method: Any, request: Any, *, timeout: float = DEFAULT_TIMEOUT) -> Any:
        request = named(request)
        for fresh in (False, True):
            metadata = await self._metadata(fresh=fresh)
            try:
                with readable_errors():
                    return await method(request, metadata=metadata, timeout=timeout)
            except GatheringError as error:
                if fresh or not self._may_renew(error):
                    raise
        raise AssertionError

    async def _stream(
        self, method: Any, request: Any, *, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        request = named(request)
        for fresh in (False, True):
            call = method(request, metadata=await self._metadata(fresh=fresh), timeout=timeout)
            begun = False
            try:
                with readable_errors():
                    async for message in call:
                        begun = True
                        yield message
            except GatheringError as error:
                if begun or fresh or not self._may_renew(error):
                    raise
            else:
                return
            finally:
                call.cancel()

    def _may_renew(self, error: GatheringError) -> bool:
        # A token may end on its way, or its key be rotated: once more with another. The edge
        # refuses a token without a reason, so the status alone has to tell.
        return self._tokens is not None and error.status == "UNAUTHENTICATED"

    async def _metadata(self, *, fresh: bool) -> tuple[tuple[str, str], ...]:
        if self._tokens is None:
            return ()
        return (("authorization", f"Bearer {await self._tokens.token(fresh=fresh)}"),)


def named(request: Message) -> Message:
    """Return the request with a `request_id`, so that a repeat of it changes nothing twice."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or request.request_id:  # type: ignore[attr-defined]
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    copy.request_id = uuid.uuid4().hex  # type: ignore[attr-defined]
    return copy


def _readable(stub: Stub) -> Stub:
    return cast("Stub", _Stub(stub, None))


def _channel(url: str, roots: bytes | None) -> grpc.aio.Channel:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8080")
    secure = parts.scheme == "https"
    target = f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
    if secure:
        credentials = grpc.ssl_channel_credentials(roots)
        return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
    return grpc.aio.insecure_channel(target, options=_OPTIONS)
