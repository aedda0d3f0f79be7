"""Put the catalogue together: the models that the settings name, and their providers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from gathering_agent.offline.model import think
from gathering_agent.ports import ModelProvider
from gathering_agent.providers.clients import Make
from gathering_agent.providers.models_catalogue import OFFLINE, Capability, Model, Prices
from gathering_agent.providers.provider_offline import OfflineProvider
from gathering_agent.providers.provider_recorded import RecordedProvider, recording_of
from gathering_agent.settings import (
    OPENAI_URL,
    AgentSettings,
    CompatibleEntry,
    ModelEntry,
    PriceEntry,
)

_OFFLINE_WINDOW = 1_000_000
_OFFLINE_OUTPUT = 100_000
# OpenAI's own models, where no others are named; these take tools without reasoning only.
_OPENAI_MODELS = (
    ModelEntry(name="gpt-6-sol", context_window_tokens=1_050_000, max_output_tokens=32_000),
    ModelEntry(name="gpt-6-luna", context_window_tokens=1_050_000, max_output_tokens=32_000),
)
# The most that an image costs, as their documentation has it: 4,784 tokens with Claude 4.7 and
# newer; 10,000 patches and a fifth more with OpenAI's, shown in their own size.
_IMAGE_TOKENS = {"anthropic": 4_784, "openai": 12_000}
_LEAST = (Capability.STREAMING, Capability.TOOLS)
# Of a provider's models, where the operator does not say it of each.
_CAPABILITIES = {
    OFFLINE: (*_LEAST, Capability.STRUCTURED_OUTPUT),
    "anthropic": tuple(Capability),
    "openai": tuple(one for one in Capability if one is not Capability.REASONING),
}
_WRITTEN_PERCENT = 125  # of the input's price: what Anthropic takes to keep it for five minutes
_log = logging.getLogger(__name__)


def open_providers(settings: AgentSettings) -> dict[str, ModelProvider]:
    """Return the providers for which there are credentials, and the offline model.

    Where exchanges are replayed, these are the ones that were recorded.
    """
    folder = settings.agent_recordings
    if folder is None:
        providers = _opened(settings)
    elif settings.agent_recordings_mode == "replay":
        providers = _replayed(settings, folder)
    else:
        opened = _opened(settings)
        providers = {name: RecordedProvider(name, folder, one) for name, one in opened.items()}
    providers[OFFLINE] = OfflineProvider(think)
    return providers


def _replayed(settings: AgentSettings, folder: Path) -> dict[str, ModelProvider]:
    names = {model.provider for model in models_of(settings)}
    recorded = [name for name in names if recording_of(folder, name).exists()]
    return {name: RecordedProvider(name, folder, None) for name in recorded}


def _opened(settings: AgentSettings) -> dict[str, ModelProvider]:
    """Return what the keys are for.

    The SDKs take seconds and 80 MB to import, so that they are only where they are used.
    """
    providers: dict[str, ModelProvider] = {}
    if key := settings.anthropic_api_key.get_secret_value():
        providers["anthropic"] = _anthropic(settings, key)
    key = settings.openai_api_key.get_secret_value()
    if _openai_models(settings) and (key or settings.openai_base_url != OPENAI_URL):
        providers["openai"] = _openai(settings, key)
    elif key:
        _log.warning(
            "no models of %s are named (GATHERING_AGENT_OPENAI_MODELS)", settings.openai_base_url
        )
    for entry in settings.agent_compatible:
        providers[entry.name] = _compatible(entry, entry.key.get_secret_value())
    return providers


def makers_of(settings: AgentSettings) -> dict[str, Make]:
    """Return what makes a provider with another key than the operator's, by its name.

    Where exchanges are replayed there is nobody to call: what is recorded answers all tenants.
    """
    if settings.agent_recordings is not None and settings.agent_recordings_mode == "replay":
        return {}
    makers: dict[str, Make] = {"anthropic": partial(_anthropic, settings)}
    if _openai_models(settings):
        makers["openai"] = partial(_openai, settings)
    return makers | {one.name: partial(_compatible, one) for one in settings.agent_compatible}


def secrets_of(settings: AgentSettings) -> dict[str, str]:
    """Return the operator's keys by provider, which nothing may tell."""
    keys = {
        "anthropic": settings.anthropic_api_key,
        "openai": settings.openai_api_key,
        **{entry.name: entry.key for entry in settings.agent_compatible},
    }
    return {name: key.get_secret_value() for name, key in keys.items()}


def _anthropic(settings: AgentSettings, key: str) -> ModelProvider:
    from gathering_agent.providers.provider_anthropic import AnthropicProvider

    return AnthropicProvider(key, settings.anthropic_base_url)


def _openai(settings: AgentSettings, key: str) -> ModelProvider:
    from gathering_agent.providers.provider_openai import OpenAiProvider

    official = settings.openai_base_url == OPENAI_URL
    effort = settings.agent_openai_reasoning_effort or ("none" if official else "")
    return OpenAiProvider(key, settings.openai_base_url, reasoning_effort=effort)


def _compatible(entry: CompatibleEntry, key: str) -> ModelProvider:
    from gathering_agent.providers.provider_openai import OpenAiProvider

    deepseek = entry.name == "deepseek"
    return OpenAiProvider(key, entry.address, wants_thoughts=deepseek)


def _openai_models(settings: AgentSettings) -> tuple[ModelEntry, ...]:
    if settings.agent_openai_models or settings.openai_base_url != OPENAI_URL:
        return settings.agent_openai_models
    return _OPENAI_MODELS


def models_of(settings: AgentSettings) -> list[Model]:
    """Return the catalogue's models; the offline one is the first."""
    offered = {
        "anthropic": settings.agent_anthropic_models,
        "openai": _openai_models(settings),
        **{entry.name: entry.models for entry in settings.agent_compatible},
    }
    return [
        Model(
            OFFLINE,
            OFFLINE,
            OFFLINE,
            _OFFLINE_WINDOW,
            _OFFLINE_OUTPUT,
            Prices(0, 0, 0, 0),
            capabilities=_CAPABILITIES[OFFLINE],
        ),
        *(_model(provider, entry) for provider, entries in offered.items() for entry in entries),
    ]


def _model(provider: str, entry: ModelEntry) -> Model:
    prices = entry.prices
    images = _IMAGE_TOKENS.get(provider, 0) if entry.image_tokens is None else entry.image_tokens
    return Model(
        f"{provider}/{entry.name}",
        provider,
        entry.name,
        entry.context_window_tokens,
        entry.max_output_tokens,
        Prices(prices.input, prices.output, prices.cached, _written(provider, prices)),
        images,
        _capabilities(provider, entry, sees=images > 0),
    )


def _written(provider: str, prices: PriceEntry) -> int | None:
    """Return the price of what is put into the cache; Anthropic takes more than for input."""
    if prices.cache_write is None and prices.input is not None and provider == "anthropic":
        return -(-prices.input * _WRITTEN_PERCENT // 100)
    return prices.cache_write


def _capabilities(provider: str, entry: ModelEntry, *, sees: bool) -> tuple[Capability, ...]:
    named = (
        _CAPABILITIES.get(provider, _LEAST) if entry.capabilities is None else entry.capabilities
    )
    can = {*named, Capability.IMAGES} if sees else {*named} - {Capability.IMAGES}
    return tuple(one for one in Capability if one in can)


def default_model(settings: AgentSettings, providers: Mapping[str, ModelProvider]) -> str:
    """Return the model of agents that name none."""
    if settings.agent_default_model:
        return settings.agent_default_model
    keyed = (model.name for model in models_of(settings)[1:] if model.provider in providers)
    return next(keyed, OFFLINE)
