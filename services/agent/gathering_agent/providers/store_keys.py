"""The rows of tenants' keys. Of a deleted one its row stays, without the key."""

from __future__ import annotations

from collections.abc import Sequence

from gathering_agent.errors import ProviderKeyNotFound
from gathering_agent.providers.models_keys import ProviderKey, Sealed
from gathering_mesh.postgres import Transaction
from gathering_mesh.statements import Row

_COLUMNS = "id, provider, last, user_id, set_time, master, wrapped, content"
_PUT = f"""
insert into agent.provider_keys (tenant_id, {_COLUMNS})
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (tenant_id, provider) where delete_time is null do update set last = excluded.last,
    user_id = excluded.user_id, set_time = excluded.set_time, master = excluded.master,
    wrapped = excluded.wrapped, content = excluded.content
returning {_COLUMNS}
"""  # noqa: S608 (names of columns)
_GET = f"select {_COLUMNS} from agent.provider_keys where tenant_id = $1 and id = $2"  # noqa: S608
_PAGE = f"""
select {_COLUMNS} from agent.provider_keys
where tenant_id = $1 and delete_time is null and provider > $2 order by provider limit $3
"""  # noqa: S608 (names of columns)
_REMOVE = f"""
update agent.provider_keys set delete_time = clock_timestamp(), wrapped = '', content = ''
where tenant_id = $1 and id = $2 and delete_time is null returning {_COLUMNS}
"""  # noqa: S608 (names of columns)
_RENEW = """
update agent.provider_keys set master = $4, wrapped = $5
where tenant_id = $1 and id = $2 and wrapped = $3 and delete_time is null
"""


class KeyStore:
    """See `ports.KeyRows`."""

    async def put(self, tx: Transaction, key: ProviderKey) -> ProviderKey:
        """Set the key of its provider, in place of the one before, whose id it has then."""
        sealed = key.sealed
        row = await tx.fetch_one(
            _PUT, tx.tenant, key.id, key.provider, key.last, key.user_id, key.set_time,
            sealed.master, sealed.wrapped, sealed.content,
        )  # fmt: skip
        assert row is not None  # noqa: S101 (it returns what it wrote)
        return _key(row)

    async def get(self, tx: Transaction, key_id: str) -> ProviderKey:
        """Return a key, also one that was deleted; ProviderKeyNotFound."""
        return _found(await tx.fetch_one(_GET, tx.tenant, key_id), key_id)

    async def page(self, tx: Transaction, *, after: str, limit: int) -> Sequence[ProviderKey]:
        """Return keys of providers behind one (empty: all), by provider."""
        return [_key(row) for row in await tx.fetch(_PAGE, tx.tenant, after, limit)]

    async def remove(self, tx: Transaction, key_id: str) -> ProviderKey:
        """Delete a key; ProviderKeyNotFound."""
        return _found(await tx.fetch_one(_REMOVE, tx.tenant, key_id), key_id)

    async def renew(self, tx: Transaction, key: ProviderKey, sealed: Sealed) -> None:
        """Keep a key as sealed by another master key, unless it was set anew meanwhile."""
        await tx.run(_RENEW, tx.tenant, key.id, key.sealed.wrapped, sealed.master, sealed.wrapped)


def _found(row: Row | None, key_id: str) -> ProviderKey:
    if row is None:
        raise ProviderKeyNotFound(key_id)
    return _key(row)


def _key(row: Row) -> ProviderKey:
    return ProviderKey(
        row["id"],
        row["provider"],
        row["last"],
        row["user_id"],
        row["set_time"],
        Sealed(row["master"], row["wrapped"], row["content"]),
    )
