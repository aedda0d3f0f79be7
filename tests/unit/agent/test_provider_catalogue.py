"""The catalogue as the settings name it: prices, and servers that speak OpenAI's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gathering_agent.providers.app_models import default_model, models_of, open_providers
from gathering_agent.providers.models_catalogue import Prices
from gathering_agent.settings import AgentSettings, CompatibleEntry

KNOWN = Prices(input=3_000_000, output=15_000_000, cached=300_000, cache_write=3_750_000)
COUNTS = st.integers(0, 2_000_000)


def test_cost_counts_cached_input_at_its_own_price() -> None:
    assert KNOWN.cost(1000, 10) == 3000 + 150
    assert KNOWN.cost(1000, 0, cached=600, written=200) == 200 * 3 + 180 + 750
    assert Prices(input=1, output=0).cost(1, 0) == 1  # never rounded down to nothing


def test_cost_is_unknown_only_where_a_price_that_matters_is() -> None:
    assert Prices().cost(0, 1) is None
    assert Prices(output=5_000_000).cost(0, 1) == 5
    assert Prices(input=3_000_000, output=0).cost(2, 0, cached=1, written=1) == 6
    assert Prices().dearest_input is None
    assert KNOWN.dearest_input == 3_750_000


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_cost_stays_below_its_bound(plain: int, cached: int, written: int, output: int) -> None:
    read = plain + cached + written
    cost = KNOWN.cost(read, output, cached, written)
    bound = Prices(KNOWN.dearest_input, KNOWN.output).cost(read, output)
    assert cost is not None
    assert bound is not None
    assert cost <= bound


def _compatible(monkeypatch: pytest.MonkeyPatch, *entries: dict[str, Any]) -> AgentSettings:
    monkeypatch.setenv("GATHERING_AGENT_COMPATIBLE", json.dumps(entries))
    return AgentSettings()


async def test_servers_of_openais_format_stand_beside_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    price = {"input": 270_000, "output": 1_100_000, "cached": 70_000}
    settings = _compatible(
        monkeypatch,
        {"name": "deepseek", "key": "k", "models": [{"name": "deepseek-chat", "prices": price}]},
        {"name": "ollama", "models": [{"name": "llama3", "context_window_tokens": 8192}]},
        {"name": "mine", "base_url": "http://127.0.0.1:1/v1", "models": [{"name": "m"}]},
    )
    models = {model.name: model for model in models_of(settings)}
    assert models["deepseek/deepseek-chat"].prices == Prices(270_000, 1_100_000, 70_000)
    assert models["ollama/llama3"].context_window_tokens == 8192
    assert models["mine/m"].prices == Prices()
    providers = open_providers(settings)
    assert {"deepseek", "ollama", "mine"} < set(providers)
    for provider in providers.values():
        await provider.aclose()


def test_price_of_writing_anthropics_cache_is_never_taken_for_that_of_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = [
        {"name": n, "prices": {"input": 3_000_001, **more}}
        for n, more in (("a", {}), ("b", {"cache_write": 7}))
    ]
    monkeypatch.setenv("GATHERING_AGENT_ANTHROPIC_MODELS", json.dumps(named))
    models = {model.name: model for model in models_of(AgentSettings())}
    assert models["anthropic/a"].prices.cache_write == 3_750_002
    assert models["anthropic/b"].prices.cache_write == 7


async def test_recorded_providers_need_no_keys_and_are_those_with_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    (tmp_path / "anthropic.jsonl").touch()
    settings = AgentSettings(agent_recordings=tmp_path)
    providers = open_providers(settings)
    assert set(providers) == {"offline", "anthropic"}
    assert default_model(settings, providers).startswith("anthropic/")
    monkeypatch.setenv("GATHERING_AGENT_RECORDINGS", str(tmp_path))
    monkeypatch.setenv("GATHERING_AGENT_RECORDINGS_MODE", "record")
    settings = _compatible(monkeypatch, {"name": "ollama", "models": [{"name": "m"}]})
    recording = open_providers(settings)
    assert set(recording) == {"offline", "ollama"}
    for provider in (*providers.values(), *recording.values()):
        await provider.aclose()


def test_known_servers_need_no_address() -> None:
    entries = [
        CompatibleEntry.model_validate({"name": name, "models": [{"name": "m"}]})
        for name in ("deepseek", "ollama", "vllm")
    ]
    assert [entry.address.partition("://")[2] for entry in entries] == [
        "api.deepseek.com/v1",
        "localhost:11434/v1",
        "localhost:8000/v1",
    ]


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "openai", "base_url": "http://x", "models": [{"name": "m"}]}],
        [{"name": "stranger", "models": [{"name": "m"}]}],
        [{"name": "ollama", "models": []}],
        [{"name": "ollama", "models": [{"name": "m"}]}] * 2,
        [{"name": "vllm", "models": [{"name": "m", "prices": {"input": -1}}]}],
    ],
    ids=["taken", "no-address", "no-models", "twice", "negative"],
)
def test_server_that_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, entries: list[dict[str, Any]]
) -> None:
    with pytest.raises(ValidationError):
        _compatible(monkeypatch, *entries)
