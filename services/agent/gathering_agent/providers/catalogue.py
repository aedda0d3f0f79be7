"""The models that agents can use."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.agents.models import AgentFields
from gathering_agent.errors import ModelNotConfigured
from gathering_agent.providers.models_catalogue import Model


class Catalogue:
    """Finds models by name; who serves them is known by `lines`."""

    def __init__(self, models: Sequence[Model], default: str) -> None:
        self._models = {model.name: model for model in models}
        self.default = default
        self.find(default)

    @property
    def models(self) -> list[Model]:
        """Return all models by name, those without credentials as well."""
        return sorted(self._models.values(), key=lambda model: model.name)

    def find(self, name: str) -> Model:
        """Return a model (empty name: the default); ModelNotConfigured."""
        model = self._models.get(name or self.default)
        if model is None:
            raise ModelNotConfigured(
                f"no model {name or self.default} in the catalogue", fields={"model": "unknown"}
            )
        return model

    def chain(self, fields: AgentFields, answered: str = "") -> list[Model]:
        """Return the models that an agent asks in turn, first the one that answered last.

        What left the catalogue meanwhile is left out; ModelNotConfigured where nothing is left.
        """
        names = dict.fromkeys((fields.model or self.default, *fields.fallback_models))
        chain = [self._models[name] for name in names if name in self._models]
        if not chain:
            return [self.find(fields.model)]
        return sorted(chain, key=lambda model: model.name != answered)
