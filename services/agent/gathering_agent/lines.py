"""The way to the models: who serves a model, and whether it can be called now."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from gathering_agent.catalogue import Catalogue
from gathering_agent.errors import ModelNotConfigured
from gathering_agent.models_catalogue import Model
from gathering_agent.ports import ModelProvider


class Lines:
    """Connects calls with the providers of their models; one without credentials is absent."""

    def __init__(self, catalogue: Catalogue, providers: Mapping[str, ModelProvider]) -> None:
        self.catalogue = catalogue
        self._providers = dict(providers)

    def available(self, model: Model) -> bool:
        """Tell whether there are credentials for a model."""
        return model.provider in self._providers

    def check(self, names: Iterable[str]) -> None:
        """Raise ModelNotConfigured where a model cannot be used."""
        for name in names:
            model = self.catalogue.find(name)
            if not self.available(model):
                raise _no_credentials(model)

    @asynccontextmanager
    async def open(self, model: Model) -> AsyncIterator[ModelProvider]:
        """Yield who answers one call of a model; raises ModelNotConfigured."""
        provider = self._providers.get(model.provider)
        if provider is None:
            raise _no_credentials(model)
        yield provider


def _no_credentials(model: Model) -> ModelNotConfigured:
    return ModelNotConfigured(
        f"the model {model.name} has no credentials", fields={"model": "no credentials"}
    )
