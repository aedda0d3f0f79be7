"""Put the way to the models together: their catalogue, keys, circuits and places."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from gathering_agent.ports import ModelProvider
from gathering_agent.providers.app_models import default_model, makers_of, models_of, secrets_of
from gathering_agent.providers.catalogue import Catalogue
from gathering_agent.providers.circuits import Circuits
from gathering_agent.providers.clients import Clients
from gathering_agent.providers.keyring import Keyring
from gathering_agent.providers.lines import Gates, Lines, Operator, Waits
from gathering_agent.providers.models_circuits import CircuitTerms
from gathering_agent.providers.places import Places
from gathering_agent.providers.sealing import read_sealer
from gathering_agent.providers.store_circuits import CircuitStore
from gathering_agent.providers.store_keys import KeyStore
from gathering_agent.providers.store_places import PlaceStore
from gathering_agent.settings import AgentSettings
from gathering_mesh.postgres import Database

Connect = Callable[[Database], Lines]


@asynccontextmanager
async def open_lines(
    settings: AgentSettings, providers: Mapping[str, ModelProvider]
) -> AsyncIterator[Connect]:
    """Yield what makes the lines of a database; at the end all providers are closed."""
    makers = makers_of(settings)
    clients = Clients(makers)
    sealer = read_sealer(settings.agent_master_key_file, settings.agent_old_master_key_files)
    catalogue = Catalogue(models_of(settings), default_model(settings, providers))
    operator = Operator(providers, secrets_of(settings))

    def connect(db: Database) -> Lines:
        keyring = Keyring(db, KeyStore(), sealer, makers)
        return Lines(catalogue, operator, keyring, clients, _gates(settings, db))

    try:
        yield connect
    finally:
        await clients.aclose()
        for provider in providers.values():
            await provider.aclose()


def _gates(settings: AgentSettings, db: Database) -> Gates:
    terms = CircuitTerms(settings.agent_circuit_failures, settings.agent_circuit_seconds)
    limits, lease = settings.agent_provider_calls, settings.agent_lease_seconds
    wait = settings.agent_model_wait_seconds
    return Gates(
        Circuits(db, CircuitStore(), terms),
        Places(db, PlaceStore(), limits, lease),
        Waits(other=wait, none=wait, place=settings.agent_model_call_seconds),
    )
