"""What a WebSocket is told, who opened it, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from gathering_mesh.errors import DomainError

SUBPROTOCOL = "gathering.v1"
TOKEN_PREFIX = "bearer."  # noqa: S105 - of a subprotocol that carries a token


class Limits(BaseModel):
    """What one connection may take, and all of a process. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connections: PositiveInt = 1200
    connections_of_user: PositiveInt = 1000
    calls: PositiveInt = Field(default=200, description="of a connection, at once")
    frame_bytes: PositiveInt = Field(default=1024 * 1024, description="largest frame of a client")
    idle_seconds: PositiveFloat = Field(default=300.0, description="without a call")
    goodbye_seconds: PositiveFloat = Field(
        default=5.0, description="for streams to end by themselves, and for a last frame to go out"
    )


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
