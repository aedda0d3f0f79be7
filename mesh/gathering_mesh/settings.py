"""What every service is told by its environment (prefix GATHERING_); services add their own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024
TRANSPORT_MARGIN = 16 * MEBIBYTE  # above the checked limit, so that our own error reaches callers

LogLevel = Literal["debug", "info", "warning", "error"]


class ServerSettings(BaseModel):
    """How a gRPC server listens and what it bears. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535, description="0: any free port")
    message_bytes: PositiveInt = Field(default=4 * MEBIBYTE, description="largest message")
    unary_calls: PositiveInt = Field(default=256, description="unary calls in flight")
    streams: PositiveInt = Field(default=1000, description="streams in flight")
    unary_deadline: PositiveFloat = Field(
        default=300.0, description="for callers that send no deadline"
    )
    connection_age: PositiveFloat = Field(
        default=600.0, description="then clients connect again and find new replicas"
    )
    token_grace: PositiveFloat = Field(
        default=5.0, description="between the end of a stream's token and the end of the stream"
    )
    reflection: bool = True


class ServiceSettings(BaseSettings):
    """Frozen; the only reader of the environment. Nested names by two underscores.

    Example: GATHERING_SERVER__PORT=7001, GATHERING_PEERS='{"memory": "127.0.0.1:7002"}'.
    """

    model_config = SettingsConfigDict(
        env_prefix="GATHERING_",
        env_nested_delimiter="__",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # values may be secrets
    )

    service: str = Field(min_length=1, description="name of this service")
    server: ServerSettings = ServerSettings()
    database_url: str = Field(
        default="", repr=False, description="of this service's role; empty: no database"
    )
    system_database_url: str = Field(
        default="", repr=False, description="of the role <svc>_sys; empty: no log, no work"
    )
    peers: dict[str, str] = Field(
        default={},
        description="address per service that is called: a gRPC target, or those of its replicas"
        " (IP:port, with commas)",
    )
    actor_key_file: Path | None = Field(
        default=None, description="PEM with this service's private key; none: it calls nobody"
    )
    actors_file: Path | None = Field(
        default=None, description='{"<service>": {"keys": [...], "scopes": [...]}}'
    )
    user_jwks_url: str = Field(
        default="", description="of the keys that sign users' tokens; commas: one after another"
    )
    log_level: LogLevel = "info"
    log_json: bool = True
    log_retention_days: PositiveFloat = Field(
        default=30.0, description="that events are kept; older cursors get a gap"
    )
    not_ready_seconds: float = Field(
        default=0.0, ge=0, description="from not ready to the stop, for routers to notice"
    )
    drain_seconds: PositiveFloat = Field(
        default=10.0, description="for calls in flight to end; then they are cancelled"
    )
