"""What the agent service is told by its environment."""

from __future__ import annotations

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
)

from gathering_mesh.settings import ServiceSettings

OPENAI_URL = "https://api.openai.com/v1"


class ModelEntry(BaseModel):
    """A model of a provider, as the provider names it; agents name it `<provider>/<name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=90)
    context_window_tokens: int = Field(default=128_000, ge=4_096)
    max_output_tokens: int = Field(default=16_000, ge=256)


class AgentSettings(ServiceSettings):
    """Keys under the names that the providers' own tools use; the rest as GATHERING_AGENT_*."""

    service: str = "agent"
    anthropic_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices(
            "anthropic_api_key", "GATHERING_AGENT_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY"
        ),
    )
    anthropic_base_url: str = Field(
        default="https://api.anthropic.com",
        validation_alias=AliasChoices(
            "anthropic_base_url", "GATHERING_AGENT_ANTHROPIC_BASE_URL", "ANTHROPIC_BASE_URL"
        ),
    )
    agent_anthropic_models: tuple[ModelEntry, ...] = Field(
        default=(
            ModelEntry(
                name="claude-sonnet-5-5", context_window_tokens=1_000_000, max_output_tokens=32_000
            ),
            ModelEntry(
                name="claude-opus-5-5", context_window_tokens=1_000_000, max_output_tokens=32_000
            ),
            ModelEntry(
                name="claude-haiku-4-5", context_window_tokens=200_000, max_output_tokens=32_000
            ),
        ),
        description="the first is the default where a key is present",
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices(
            "openai_api_key", "GATHERING_AGENT_OPENAI_API_KEY", "OPENAI_API_KEY"
        ),
    )
    openai_base_url: str = Field(
        default=OPENAI_URL,
        validation_alias=AliasChoices(
            "openai_base_url", "GATHERING_AGENT_OPENAI_BASE_URL", "OPENAI_BASE_URL"
        ),
        description="also of DeepSeek, Ollama, vLLM and others; these need agent_openai_models",
    )
    agent_openai_models: tuple[ModelEntry, ...] = Field(
        default=(),
    )
    agent_openai_reasoning_effort: str = Field(
        default="",
        description="sent if set; by default `none` to OpenAI itself, which wants it with tools",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="carries text deltas to the watchers of other replicas; empty: whole steps",
    )
    agent_default_model: str = Field(
        default="",
        description="of agents that name none; empty: a keyed provider's first, else `offline`",
    )
    agent_concurrent_turns: PositiveInt = Field(
        default=128,
    )
    agent_lease_seconds: PositiveFloat = Field(
        default=10.0,
        description="until the turns of a replica that died are taken over",
    )
    agent_model_attempts: PositiveInt = Field(
        default=4,
    )
    agent_model_call_seconds: PositiveFloat = Field(
        default=900.0,
    )
    agent_turn_seconds: PositiveFloat = Field(
        default=7200.0,
    )
