"""What the gateway is told by its environment, beside what every service is told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from gathering_gateway.websocket.models import Limits
from gathering_mesh.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Frozen; prefix GATHERING_. Times in seconds."""

    service: str = "gateway"
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=0, ge=0, le=65535, description="0: any free port")
    keys_dir: Path | None = Field(default=None, description="folder of the keys that sign tokens")
    sources: tuple[str, ...] = Field(
        default=("agent", "memory", "orchestrator", "skills"),
        description="services whose event logs are merged, beside the gateway's own",
    )
    access_token_seconds: PositiveFloat = Field(
        default=300.0,
        description="also how long a role or right lives on that ended",
    )
    refresh_token_seconds: PositiveFloat = 30 * 86_400.0
    delegation_idle_seconds: PositiveFloat = Field(
        default=30 * 86_400.0, description="a delegation not used for so long ends"
    )
    audit_retention_days: PositiveInt = 365
    key_delay_seconds: float = Field(
        default=600.0, ge=0, description="from the publication of a new key to its first signature"
    )
    login_attempts: PositiveInt = Field(default=10, description="per e-mail address and window")
    login_window_seconds: PositiveFloat = 900.0
    password_passes: PositiveInt = 3
    password_memory_kib: PositiveInt = 64 * 1024
    password_threads: PositiveInt = 2
    ring_entries: PositiveInt = Field(default=4096, description="recent events kept per source")
    checkpoint_seconds: PositiveFloat = 15.0
    websocket: Limits = Limits()
