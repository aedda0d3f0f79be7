"""What the edge is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Config = dict[str, Any]

MEBIBYTE = 1024 * 1024


PUBLIC_BODY = 64 * 1024  # bytes that anybody may send
LARGEST_READ = 64 * MEBIBYTE  # bytes of a body that is refused, and yet read to its end
TOO_LARGE_PATH = "/too-large"  # at the gateway, where that is done
BUFFERED = (
    64 * 1024
)  # bytes of a connection that wait in the edge; who reads slowly is sent no more
MOST_HEADERS = 100
HEADERS_KIB = 60


class EdgeSettings(BaseModel):
    """Addresses are `host:port`, with commas between those of replicas. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    parts: dict[str, str] = Field(
        description="gRPC addresses of each part; one left out: no routes"
    )
    gateway_http: str = Field(description="addresses of the gateway's HTTP side")
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins of browsers' pages, `*` for all; none: same origin only"
    )
    body_bytes: PositiveInt = Field(
        default=4 * MEBIBYTE, description="largest message, as each service's server has it"
    )
    unary_seconds: PositiveFloat = Field(default=60.0, description="for one answer")
    slow_seconds: PositiveFloat = Field(default=600.0, description="for answers that models write")
    slow: tuple[str, ...] = Field(
        default=("gathering.agent.v1.TurnService.Chat",), description="RPCs that take long"
    )
    jwks_cache_seconds: PositiveFloat = Field(
        default=60.0, description="a new key must be published for longer before it signs"
    )
    unary_calls: PositiveInt = Field(default=256, description="as each service's server has it")
    streams: PositiveInt = Field(default=1000, description="as each service's server has it")
    health_seconds: PositiveFloat = Field(
        default=5.0, description="between checks of a replica; it must drain for longer"
    )
    connections: PositiveInt = Field(default=10_000, description="of clients, at once")
    user_per_minute: NonNegativeInt = Field(
        default=6000, description="requests of each user on each route; 0: no limit"
    )
    address_per_minute: NonNegativeInt = Field(
        default=60,
        description="requests of each client address on each route without a token; 0: no limit",
    )
    headers_seconds: PositiveFloat = Field(default=10.0, description="for a request's headers")
    request_seconds: PositiveFloat = Field(default=30.0, description="for a whole request")
    trusted_proxies: NonNegativeInt = Field(
        default=0, description="proxies before the edge that append to x-forwarded-for"
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM chain; one renamed onto it is taken while the edge runs"
    )
    tls_key: Path | None = Field(default=None, description="PEM, in the certificate's directory")
    tls_file: Path | None = Field(
        default=None, description="written beside the configuration: names the two for Envoy"
    )
    admin_socket: Path | None = Field(default=None, description="Unix socket of Envoy's admin")
    admin_port: int | None = Field(
        default=None, ge=0, le=65535, description="port of Envoy's admin on loopback"
    )
    access_log: bool = Field(default=False, description="JSON lines to stdout, without queries")

    @model_validator(mode="after")
    def _whole_pair(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        return self


def largest_body(settings: EdgeSettings) -> int:
    """Return the bytes of a body that are read at most.

    Envoy answers a larger one and hangs up, and who still sends then sees a cut connection instead.
    So this lies far above what the services take, who read to the end and say what is wrong.
    """
    return settings.body_bytes + 16 * MEBIBYTE
