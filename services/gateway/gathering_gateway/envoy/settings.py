"""The edge's settings from the environment: GATHERING_EDGE__PORT=8080 and so on."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

from gathering_gateway.envoy.models import EdgeSettings


class EdgeEnvironment(BaseSettings):
    """Frozen. Lists and maps are JSON: GATHERING_EDGE__PARTS='{"agent": "127.0.0.1:7001"}'."""

    model_config = SettingsConfigDict(
        env_prefix="GATHERING_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    edge: EdgeSettings
