"""What the way to the models needs of rows: circuits and places, of no tenant, and keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from gathering_agent.providers.models_circuits import Circuit, CircuitTerms
from gathering_agent.providers.models_keys import ProviderKey, Sealed
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Statements


class CircuitRows(Protocol):
    """Circuits; all times are the database's."""

    async def all(self, tx: Statements) -> list[Circuit]:
        """Return the circuits that failed, were open or tried in the last hour."""

    async def failed(
        self, tx: Statements, name: str, reason: str, terms: CircuitTerms, open_seconds: float
    ) -> None:
        """Count a failure; enough of them in a row open the circuit for so many seconds."""

    async def probe(self, tx: Statements, names: Collection[str], seconds: float) -> list[str]:
        """Take the right to try for open circuits whose time is over; return those it got."""

    async def alive(self, tx: Statements, names: Collection[str], failures: int) -> None:
        """Close circuits on trial: so many failures are counted already."""

    async def answered(self, tx: Statements, names: Collection[str]) -> None:
        """Forget the failures of closed circuits."""

    async def give_back(self, tx: Statements, names: Collection[str]) -> None:
        """Let another call try."""


class PlaceRows(Protocol):
    """Calls in flight of providers that have a limit, and those that wait, in order."""

    async def enter(self, tx: Statements, provider: str, owner: str, lease: float) -> int:
        """Stand in line; return the place's number."""

    async def first(self, tx: Statements, provider: str, owner: str, limit: int) -> Sequence[int]:
        """Return the owner's places among the first so many of the line."""

    async def renew(
        self, tx: Statements, owner: str, places: Sequence[int], lease: float
    ) -> Sequence[int]:
        """Keep places; return those that are still there."""

    async def leave(self, tx: Statements, place: int) -> None:
        """Make room."""


class KeyRows(Protocol):
    """The keys of the transaction's tenant."""

    async def put(self, tx: Transaction, key: ProviderKey) -> ProviderKey:
        """Set the key of its provider, in place of the one before, whose id it has then."""

    async def get(self, tx: Transaction, key_id: str) -> ProviderKey:
        """Return a key, also one that was deleted; ProviderKeyNotFound."""

    async def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[ProviderKey]:
        """Return keys of providers behind one (empty: all), by provider."""

    async def remove(self, tx: Transaction, key_id: str) -> ProviderKey:
        """Delete a key; ProviderKeyNotFound."""

    async def renew(self, tx: Transaction, key: ProviderKey, sealed: Sealed) -> None:
        """Keep a key as sealed by another master key, unless it was set anew meanwhile."""
