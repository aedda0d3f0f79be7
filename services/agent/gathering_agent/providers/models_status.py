"""A model of the catalogue as it is for a tenant just now."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gathering_agent.providers.models_catalogue import Model
from gathering_agent.providers.models_circuits import Circuit, CircuitState


class KeySource(StrEnum):
    """Whose key calls are made with."""

    OPERATOR = "operator"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model; `source` is None where there is no key. `circuit` is the worst that bears on it."""

    model: Model
    source: KeySource | None
    circuit: Circuit
    state: CircuitState
