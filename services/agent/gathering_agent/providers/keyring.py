"""Tenants' own keys of providers: set, listed, deleted, and found for calls.

What was found is kept in the process until the log tells of a change, a minute at most.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gathering_agent.errors import NoMasterKey, NoSuchProvider
from gathering_agent.events import ProviderKeyDeleted, ProviderKeySet
from gathering_agent.providers.models_keys import Credential, ProviderKey
from gathering_agent.providers.ports import KeyRows
from gathering_agent.providers.sealing import Sealer, Unreadable
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database

_log = logging.getLogger(__name__)
_SHOWN = 4  # characters of a key
_KEPT_SECONDS = 60.0
_KEPT_TENANTS = 4096
_MOST = 1000  # keys of a tenant; a catalogue has fewer providers
# A tenant's credentials by provider; None where a key cannot be read.
Keys = Mapping[str, Credential | None]


@dataclass(frozen=True, slots=True)
class _Found:
    keys: Keys
    until: float


class Keyring:
    """The verbs on keys; `providers` are those that take one."""

    def __init__(
        self, db: Database, rows: KeyRows, sealer: Sealer | None, providers: Collection[str]
    ) -> None:
        self._db = db
        self._rows = rows
        self._sealer = sealer
        self._providers = frozenset(providers)
        self._found: OrderedDict[str, _Found] = OrderedDict()
        self._changes = 0

    async def set(self, call: Call, provider: str, secret: str) -> ProviderKey:
        """Set the key of a provider; NoSuchProvider, NoMasterKey."""
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            new = self._sealed(call, provider, secret)
            key = await self._rows.put(tx, new)
            tx.emit(key.id, ProviderKeySet(key.id, provider))
            tx.result = key.id
        self.forget(call.tenant)
        return key

    def _sealed(self, call: Call, provider: str, secret: str) -> ProviderKey:
        if provider not in self._providers:
            raise NoSuchProvider(provider, sorted(self._providers))
        if self._sealer is None:
            raise NoMasterKey
        sealed = self._sealer.seal(secret, (call.tenant, provider))
        now = datetime.now(UTC)
        return ProviderKey(new_id("pky"), provider, secret[-_SHOWN:], call.user, now, sealed)

    async def page(self, call: Call, *, after: str, limit: int) -> Sequence[ProviderKey]:
        """Return keys of providers behind one (empty: all), by provider."""
        async with self._db.transaction(call) as tx:
            return await self._rows.page(tx, after=after, limit=limit)

    async def delete(self, call: Call, key_id: str) -> ProviderKey:
        """Delete a key; return what was known of it. ProviderKeyNotFound."""
        async with self._db.mutation(call) as tx:
            if tx.replay:
                return await self._rows.get(tx, tx.replay)
            key = await self._rows.remove(tx, key_id)
            tx.emit(key.id, ProviderKeyDeleted(key.id, key.provider))
            tx.result = key.id
        self.forget(call.tenant)
        return key

    def forget(self, tenant: str) -> None:
        """Read a tenant's keys again before the next call."""
        self._changes += 1
        self._found.pop(tenant, None)

    async def of(self, tenant: str) -> Keys:
        """Return the credentials of a tenant, by provider."""
        found = self._found.get(tenant)
        if found is not None and time.monotonic() < found.until:
            self._found.move_to_end(tenant)
            return found.keys
        return await self._read(tenant, self._sealer)

    async def _read(self, tenant: str, sealer: Sealer | None) -> Keys:
        changes, until = self._changes, time.monotonic() + _KEPT_SECONDS
        async with self._db.transaction(tenant) as tx:
            rows = await self._rows.page(tx, after="", limit=_MOST)
            keys = {row.provider: _opened(sealer, tenant, row) for row in rows}
            for row in rows:
                if sealer is None or keys[row.provider] is None:
                    continue
                if row.sealed.master != sealer.newest:
                    sealed = sealer.renewed(row.sealed, (tenant, row.provider))
                    await self._rows.renew(tx, row, sealed)
        # Where exchanges are replayed no provider takes a key: what is recorded answers.
        keys = {name: key for name, key in keys.items() if name in self._providers}
        if changes == self._changes:  # what was read may be older than a change that was told
            self._found[tenant] = _Found(keys, until)
            while len(self._found) > _KEPT_TENANTS:
                self._found.popitem(last=False)
        return keys


def _opened(sealer: Sealer | None, tenant: str, key: ProviderKey) -> Credential | None:
    """Return a key, None if it cannot be read: the operator's does not take its place."""
    if sealer is None:
        _log.error("the key %s of %s cannot be read: there is no master key", key.id, tenant)
        return None
    try:
        secret = sealer.open(key.sealed, (tenant, key.provider))
    except Unreadable as error:
        _log.error("the key %s of %s cannot be read: %s", key.id, tenant, error)
        return None
    return Credential(key.provider, secret, tenant)
