"""The models that agents can use, and who serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gathering_agent.errors import ModelNotConfigured
from gathering_agent.models_catalogue import Model
from gathering_agent.ports import ModelProvider


class Catalogue:
    """Finds a model and its provider; a provider without credentials is absent."""

    def __init__(
        self, models: Sequence[Model], providers: Mapping[str, ModelProvider], default: str
    ) -> None:
        self._models = {model.name: model for model in models}
        self._providers = dict(providers)
        self.default = default
        self.find(default)

    @property
    def models(self) -> list[Model]:
        """Return all models by name, those without credentials as well."""
        return sorted(self._models.values(), key=lambda model: model.name)

    def available(self, model: Model) -> bool:
        """Tell whether a model can be used."""
        return model.provider in self._providers

    def find(self, name: str) -> tuple[Model, ModelProvider]:
        """Return a model (empty name: the default) and its provider; ModelNotConfigured."""
        model = self._models.get(name or self.default)
        if model is None:
            raise ModelNotConfigured(
                f"no model {name or self.default} in the catalogue", fields={"model": "unknown"}
            )
        provider = self._providers.get(model.provider)
        if provider is None:
            raise ModelNotConfigured(
                f"the model {model.name} has no credentials", fields={"model": "no credentials"}
            )
        return model, provider
