"""What a WebSocket is told, who opened it, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from gathering_mesh.errors import DomainError

SUBPROTOCOL = "gathering.v1"
TOKEN_PREFIX = "bearer."  # noqa: S105 - of a subprotocol that carries a token


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take, and all of them. Times in seconds."""

    connections: int = 1000
    connections_of_user: int = 100
    calls: int = 200
    frame_bytes: int = 1024 * 1024
    idle_seconds: float = 300.0
    goodbye_seconds: float = 5.0  # for streams to end by themselves, and for a last frame to go out


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who opened the connection; `expires_at` is wall time."""

    user: str
    token: str = field(repr=False)
    expires_at: float
    request_id: str
    trace: str


@dataclass(frozen=True, slots=True)
class Goodbye:
    """How the server closes a connection; `resume` says whether a `reconnect` frame comes first."""

    code: int
    reason: str
    resume: bool = True


DRAINING = Goodbye(1001, "draining")
TOKEN_EXPIRED = Goodbye(4401, "token_expired")
IDLE = Goodbye(4408, "no call was open for too long", resume=False)


class Gone(Exception):
    """The client has left."""


class Unusable(Exception):
    """A frame that begins no call; `id` is the call that it would have begun, if any."""

    def __init__(self, id: str, error: DomainError) -> None:
        super().__init__(error.message)
        self.id = id
        self.error = error
