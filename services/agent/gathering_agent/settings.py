"""What the agent service is told by its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
    model_validator,
)

from gathering_agent.providers.models_catalogue import Capability
from gathering_mesh.settings import ServiceSettings

OPENAI_URL = "https://api.openai.com/v1"


class PriceEntry(BaseModel):
    """Micro-USD per million tokens: 3 USD are 3000000. What is left out is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: NonNegativeInt | None = None
    output: NonNegativeInt | None = None
    cached: NonNegativeInt | None = None
    cache_write: NonNegativeInt | None = None


class ModelEntry(BaseModel):
    """A model of a provider, as the provider names it; agents name it `<provider>/<name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=90)
    context_window_tokens: int = Field(default=128_000, ge=4_096)
    max_output_tokens: int = Field(default=16_000, ge=256)
    prices: PriceEntry = PriceEntry()
    image_tokens: NonNegativeInt | None = Field(
        default=None,
        description="the most that an image costs; 0: takes none; known for Anthropic and OpenAI",
    )
    capabilities: tuple[Capability, ...] | None = Field(
        default=None, description="but images; none named: what its provider's models can"
    )


# Where the servers of these names listen, unless they are told to be elsewhere.
_ADDRESSES = {
    "deepseek": "https://api.deepseek.com/v1",
    "ollama": "http://localhost:11434/v1",
    "vllm": "http://localhost:8000/v1",
}
_TAKEN = {"offline", "anthropic", "openai"}


class CompatibleEntry(BaseModel):
    """A server that speaks OpenAI's chat completions; agents name its models `<name>/<model>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,29}$")
    base_url: str = Field(default="", description="known for deepseek, ollama and vllm")
    key: SecretStr = SecretStr("")
    models: tuple[ModelEntry, ...] = Field(min_length=1)

    @property
    def address(self) -> str:
        """Return the address, of a known server where none is given."""
        return self.base_url or _ADDRESSES[self.name]

    @model_validator(mode="after")
    def _has_name_and_address(self) -> Self:
        if self.name in _TAKEN:
            raise ValueError(f"the name {self.name} is taken")
        if not self.base_url and self.name not in _ADDRESSES:
            raise ValueError(f"{self.name} has no base_url")
        return self


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
    agent_compatible: tuple[CompatibleEntry, ...] = Field(
        default=(),
        description="servers of OpenAI's format (DeepSeek, Ollama, vLLM, ...), as JSON",
    )
    agent_recordings: Path | None = Field(
        default=None,
        description="folder of recorded exchanges with providers, see docs/providers.md",
    )
    agent_recordings_mode: Literal["record", "replay"] = Field(
        default="replay",
        description="`record`: what is not recorded is asked for; `replay`: it is refused",
    )
    agent_provider_calls: dict[str, PositiveInt] = Field(
        default_factory=dict,
        description="at once, by provider, of all replicas, as JSON; no bound where none is named",
    )
    agent_master_key_file: Path | None = Field(
        default=None,
        description="32 bytes in base64, by which tenants' keys of providers are encrypted; "
        "none: tenants cannot have keys of their own",
    )
    agent_old_master_key_files: tuple[Path, ...] = Field(
        default=(),
        description="of before, as JSON; a key is encrypted with the new one when it is used",
    )
    agent_circuit_failures: PositiveInt = Field(
        default=5,
        description="in a row, after which a provider or model is left alone by all replicas",
    )
    agent_circuit_seconds: PositiveFloat = Field(
        default=10.0,
        description="for so long; then one call tries whether it answers again",
    )
    agent_model_wait_seconds: PositiveFloat = Field(
        default=30.0,
        description="a call waits so long for a provider that has its limit of calls, or, where "
        "the agent names no other model, for one that is left alone",
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
    agent_waiting_turns: PositiveInt = Field(
        default=20,
        description="of one session, behind its live one",
    )
    agent_repeated_calls: NonNegativeInt = Field(
        default=4,
        description="times that a call of a turn may give the same result; 0: any",
    )
    agent_idle_rounds: NonNegativeInt = Field(
        default=4,
        description="rounds of calls in a row that may bring a turn nothing new; 0: any",
    )
    agent_budget_seconds: PositiveFloat = Field(
        default=30.0,
        description="a call waits so long for calls in flight that hold the rest of a budget",
    )

    @field_validator("agent_compatible")
    @classmethod
    def _names_are_unique(cls, entries: tuple[CompatibleEntry, ...]) -> tuple[CompatibleEntry, ...]:
        if len({entry.name for entry in entries}) < len(entries):
            raise ValueError("two servers have one name")
        return entries
