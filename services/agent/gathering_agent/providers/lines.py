"""The way to the models: who serves a model, with whose key, and whether it can be called now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from gathering_agent.errors import ModelNotConfigured
from gathering_agent.ports import ModelProvider
from gathering_agent.providers.catalogue import Catalogue
from gathering_agent.providers.circuits import Circuits
from gathering_agent.providers.clients import Clients
from gathering_agent.providers.discretion import tells, without
from gathering_agent.providers.keyring import Keyring, Keys
from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_circuits import Circuit
from gathering_agent.providers.models_keys import Credential
from gathering_agent.providers.models_status import KeySource, ModelStatus
from gathering_agent.providers.places import Places
from gathering_mesh.errors import DomainError


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a call waits, in seconds: where there is another model to ask, and where not.

    `other`: for a place at a provider that is busy; an open circuit is not waited for. `none`: for
    an open circuit. `place`: for a place.
    """

    other: float = 30.0
    none: float = 30.0
    place: float = 900.0


@dataclass(frozen=True, slots=True)
class Operator:
    """The providers that the operator has credentials for, and the secrets among these."""

    providers: Mapping[str, ModelProvider]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Gates:
    """What a call has to pass: all replicas share it."""

    circuits: Circuits
    places: Places
    waits: Waits = Waits()


class Lines:
    """Connects calls with the providers of their models.

    A call is made with the tenant's own key, else with the operator's; without both the model is
    not there for the tenant.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        operator: Operator,
        keyring: Keyring,
        clients: Clients,
        gates: Gates,
    ) -> None:
        self.catalogue = catalogue
        self._operator = operator
        self.keyring = keyring
        self._clients = clients
        self._gates = gates

    async def run(self) -> None:
        """Follow what other replicas find, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._gates.circuits.run())
            tasks.create_task(self._gates.places.run())

    async def forget(self, tenant: str) -> None:
        """Take note that a tenant's keys have changed."""
        self.keyring.forget(tenant)
        await self._clients.forget(tenant)

    async def usable(self, tenant: str) -> Set[str]:
        """Return the providers that a tenant can use."""
        keys = await self.keyring.of(tenant)
        return self._operator.providers.keys() | keys.keys()

    def check(self, names: Iterable[str], usable: Set[str]) -> None:
        """Raise ModelNotConfigured where a model cannot be used with these providers."""
        for name in names:
            model = self.catalogue.find(name)
            if model.provider not in usable:
                raise _no_credentials(model)

    async def status(self, tenant: str) -> list[ModelStatus]:
        """Return the models of the catalogue as they are for a tenant."""
        keys = await self.keyring.of(tenant)
        return [self._status(model, keys) for model in self.catalogue.models]

    def _status(self, model: Model, keys: Keys) -> ModelStatus:
        source = KeySource.OPERATOR if model.provider in self._operator.providers else None
        if model.provider in keys:
            source = KeySource.TENANT if keys[model.provider] else None
        circuits = self._gates.circuits
        known = [circuits.known(name) for name in circuits_of(model, keys.get(model.provider))]
        worst = max(known, key=_severity)
        return ModelStatus(model, source, worst, worst.state(time.monotonic()))

    def of(self, tenant: str) -> TenantLines:
        """Return the lines of a tenant."""
        return TenantLines(self, tenant)

    @asynccontextmanager
    async def open(self, tenant: str, model: Model, *, last: bool) -> AsyncIterator[ModelProvider]:
        """Yield who answers one call of a model; `last`: there is no other to ask instead.

        Raises ModelNotConfigured, ModelUnavailable. What fails inside tells no key.
        """
        own = self._own(model, await self.keyring.of(tenant))
        secret = own.secret if own else self._operator.secrets.get(model.provider, "")
        try:
            async with (
                self._client(model, own) as provider,
                self._gate(model, own, provider, last=last) as answering,
            ):
                yield answering
        except DomainError as error:
            if tells(error, secret):
                raise without(error, secret) from None
            raise

    def _own(self, model: Model, keys: Keys) -> Credential | None:
        """Return the tenant's own key, if there is one; the operator's does not stand in for it."""
        own = keys.get(model.provider)
        if own is None and model.provider in keys:
            raise ModelNotConfigured(f"the tenant's key of {model.provider} cannot be read")
        return own

    def _client(
        self, model: Model, own: Credential | None
    ) -> AbstractAsyncContextManager[ModelProvider]:
        if own is not None:
            return self._clients.use(own)
        provider = self._operator.providers.get(model.provider)
        if provider is None:
            raise _no_credentials(model)
        return nullcontext(provider)

    @asynccontextmanager
    async def _gate(
        self, model: Model, own: Credential | None, provider: ModelProvider, *, last: bool
    ) -> AsyncIterator[ModelProvider]:
        """Let a call through when there is a place for it, and no open circuit before it."""
        if not model.remote:
            yield provider
            return
        gates, names = self._gates, circuits_of(model, own)
        if not last:
            gates.circuits.check(names)
        waits = gates.waits
        async with (
            # Who waits for an open circuit holds no place meanwhile.
            gates.circuits.guard(names, provider, waits.none if last else 0.0) as guarded,
            gates.places.hold(model.provider, waits.place if last else waits.other),
        ):
            yield guarded


@dataclass(frozen=True, slots=True)
class TenantLines:
    """The lines of one tenant."""

    lines: Lines
    tenant: str

    def open(self, model: Model, *, last: bool) -> AbstractAsyncContextManager[ModelProvider]:
        """See `Lines.open`."""
        return self.lines.open(self.tenant, model, last=last)


def circuits_of(model: Model, own: Credential | None) -> Sequence[str]:
    """Name the circuits of a call: of the provider that is reached, and of what answers there.

    With keys of their own tenants do not stand in each other's way.
    """
    return (model.provider, f"{model.name} {own.tenant}" if own else model.name)


def _severity(circuit: Circuit) -> tuple[bool, float]:
    failed = circuit.failure_time
    return circuit.open, failed.timestamp() if failed else 0.0


def _no_credentials(model: Model) -> ModelNotConfigured:
    return ModelNotConfigured(
        f"the model {model.name} has no credentials", fields={"model": "no credentials"}
    )
