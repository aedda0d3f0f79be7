"""The way to the models: who serves a model, and whether it can be called now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gathering_agent.catalogue import Catalogue
from gathering_agent.circuits import Circuits
from gathering_agent.errors import ModelNotConfigured
from gathering_agent.models_catalogue import Model
from gathering_agent.places import Places
from gathering_agent.ports import ModelProvider


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a call waits, in seconds: where there is another model to ask, and where not.

    `other`: for a place at a provider that is busy; an open circuit is not waited for. `none`: for
    an open circuit. `place`: for a place.
    """

    other: float = 30.0
    none: float = 30.0
    place: float = 900.0


class Lines:
    """Connects calls with the providers of their models; one without credentials is absent."""

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Mapping[str, ModelProvider],
        circuits: Circuits,
        places: Places,
        waits: Waits,
    ) -> None:
        self.catalogue = catalogue
        self._providers = dict(providers)
        self._circuits = circuits
        self._places = places
        self._waits = waits

    async def run(self) -> None:
        """Follow what other replicas find, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._circuits.run())
            tasks.create_task(self._places.run())

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
    async def open(self, model: Model, *, last: bool) -> AsyncIterator[ModelProvider]:
        """Yield who answers one call of a model; `last`: there is no other to ask instead.

        Raises ModelNotConfigured, ModelUnavailable.
        """
        provider = self._providers.get(model.provider)
        if provider is None:
            raise _no_credentials(model)
        if not model.remote:
            yield provider
            return
        names = circuits_of(model)
        if not last:
            self._circuits.check(names)
        waits = self._waits
        async with (
            self._places.hold(model.provider, waits.place if last else waits.other),
            self._circuits.guard(names, provider, waits.none if last else 0.0) as guarded,
        ):
            yield guarded


def circuits_of(model: Model) -> Sequence[str]:
    """Name the circuits of a call: of the provider that is reached, and of the model."""
    return (model.provider, model.name)


def _no_credentials(model: Model) -> ModelNotConfigured:
    return ModelNotConfigured(
        f"the model {model.name} has no credentials", fields={"model": "no credentials"}
    )
