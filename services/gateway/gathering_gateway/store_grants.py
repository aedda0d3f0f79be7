"""API keys and delegations: lasting rights that their user can revoke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gathering_gateway.events import (
    ApiKeyCreated,
    ApiKeyRevoked,
    DelegationCreated,
    DelegationRevoked,
)
from gathering_gateway.models import ApiKey, Delegation, NewApiKey, Owner
from gathering_gateway.store import add_lookup
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.lease import Lease
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.statements import Row

DELEGATION = "delegation"  # kind of work: end it when nobody uses it
_NEW_KEY = """
insert into api_key (tenant_id, id, user_id, display_name, hash, expires_at, scopes)
values ($1, $2, $3, $4, $5, now() + $6::interval, $7) returning *
"""
_KEYS = """
select * from api_key
where tenant_id = $1 and user_id = $2 and ($3 = '' or id < $3) order by id desc limit $4
"""
_OWN_KEY = "select * from api_key where tenant_id = $1 and user_id = $2 and id = $3 for update"
_REVOKE_KEY = "update api_key set revoked_at = now() where tenant_id = $1 and id = $2 returning *"
_NEW_DELEGATION = """
insert into delegation (tenant_id, id, user_id, actor, purpose_id, parent_id, api_key_id, scopes)
values ($1, $2, $3, $4, $5, $6, $7, coalesce(
    (select scopes from api_key where tenant_id = $1 and id = $7),
    (select scopes from delegation where tenant_id = $1 and id = $6), '{}'))
"""
# Not each time: whoever works by it asks every few minutes.
_USED = """
update delegation set last_used_at = now()
where tenant_id = $1 and id = $2 and last_used_at < now() - $3::interval / 100
"""
_EXPIRE = """
update delegation set revoked_at = now()
where tenant_id = $1 and id = $2 and revoked_at is null and last_used_at <= now() - $3::interval
returning user_id
"""
_ENDS = """
select last_used_at + $3::interval as at from delegation
where tenant_id = $1 and id = $2 and revoked_at is null
"""
# A delegation has ended with any of those that it was made under, and with the API key of any.
_DELEGATION = """
with recursive chain as (
    select tenant_id, parent_id, api_key_id, revoked_at
    from delegation where tenant_id = $1 and id = $2
    union
    select d.tenant_id, d.parent_id, d.api_key_id, d.revoked_at
    from delegation d join chain c on d.tenant_id = c.tenant_id and d.id = c.parent_id),
whole as (
    select min(k.expires_at) as expires_at, bool_or(
        c.revoked_at is not null or k.revoked_at is not null
        or coalesce(k.expires_at <= now(), false)) as ended
    from chain c left join api_key k on k.tenant_id = c.tenant_id and k.id = c.api_key_id)
select d.*, whole.expires_at as key_expires_at, d.last_used_at + $3::interval as expires_at,
    whole.ended or d.last_used_at + $3::interval <= now() or m.disabled_at is not null as ended
from delegation d cross join whole
join member m on m.tenant_id = d.tenant_id and m.id = d.user_id
where d.tenant_id = $1 and d.id = $2
"""
_REVOKE_DELEGATION = """
update delegation set revoked_at = now()
where tenant_id = $1 and id = $2 and user_id = $3 and revoked_at is null
"""


@dataclass(frozen=True, slots=True)
class ApiKeyStore:
    """API keys."""

    db: Database

    async def create(self, call: Call, new: NewApiKey, lookup: bytes, hash: bytes) -> ApiKey:
        """Store a key of the caller."""
        async with self.db.transaction(call) as tx:
            key_id = new_id("key")
            await add_lookup(tx, lookup, key_id)
            row = await tx.fetch_one(
                _NEW_KEY,
                tx.tenant,
                key_id,
                call.user,
                new.display_name,
                hash,
                new.life,
                sorted(new.scopes),
            )
            tx.emit(key_id, ApiKeyCreated(api_key_id=key_id, user_id=call.user), [call.user])
        assert row is not None  # noqa: S101 (an insert returns its row)
        return _key(row)

    async def find(self, owner: Owner) -> tuple[ApiKey, bytes] | None:
        """Return a key with the hash of its secret."""
        async with self.db.transaction(owner.tenant_id) as tx:
            row = await tx.fetch_one(
                "select * from api_key where tenant_id = $1 and id = $2", tx.tenant, owner.id
            )
        return (_key(row), row["hash"]) if row else None

    async def page(self, call: Call, before: str, limit: int) -> Sequence[ApiKey]:
        """Return the caller's keys, newest first, those before one."""
        async with self.db.transaction(call) as tx:
            rows = await tx.fetch(_KEYS, tx.tenant, call.user, before, limit)
        return [_key(row) for row in rows]

    async def revoke(self, call: Call, api_key_id: str) -> ApiKey | None:
        """Revoke one of the caller's keys; None if there is none."""
        async with self.db.transaction(call) as tx:
            row = await tx.fetch_one(_OWN_KEY, tx.tenant, call.user, api_key_id)
            if row is not None and row["revoked_at"] is None:
                row = await tx.fetch_one(_REVOKE_KEY, tx.tenant, api_key_id)
                told = ApiKeyRevoked(api_key_id=api_key_id, user_id=call.user)
                tx.emit(api_key_id, told, [call.user])
        return _key(row) if row else None


@dataclass(frozen=True, slots=True)
class DelegationStore:
    """Delegations; one that is not used for `idle` ends."""

    db: Database
    idle: timedelta

    async def create(self, call: Call, actor: str, purpose_id: str) -> Delegation:
        """Store the caller's delegation to a service, once per request id."""
        async with self.db.mutation(call) as tx:
            made = tx.replay or new_id("dlg")
            if not tx.replay:
                under = (call.principal.delegation, call.principal.api_key)
                await tx.run(_NEW_DELEGATION, tx.tenant, made, call.user, actor, purpose_id, *under)
                told = DelegationCreated(
                    delegation_id=made, user_id=call.user, actor=actor, purpose_id=purpose_id
                )
                tx.emit(made, told, [call.user])
                await tx.schedule(DELEGATION, made, self.idle)
                tx.result = made
            found = await self._get(tx, made)
        assert found is not None  # noqa: S101 (it was made in this transaction or before)
        return found

    async def get(self, tenant: str, delegation_id: str) -> Delegation | None:
        """Return a delegation."""
        async with self.db.transaction(tenant) as tx:
            return await self._get(tx, delegation_id)

    async def used(self, tenant: str, delegation_id: str) -> None:
        """Note that a token was made from a delegation."""
        async with self.db.transaction(tenant) as tx:
            await tx.run(_USED, tenant, delegation_id, self.idle)

    async def expire(self, lease: Lease) -> None:
        """End a delegation that nobody used, or look again when that may be."""
        async with lease.transaction() as tx:
            row = await tx.fetch_one(_EXPIRE, tx.tenant, lease.id, self.idle)
            ends = await tx.fetch_one(_ENDS, tx.tenant, lease.id, self.idle)
            if row is not None:
                user = row["user_id"]
                tx.emit(lease.id, DelegationRevoked(delegation_id=lease.id, user_id=user), [user])
            if ends is None:
                await lease.done(tx)
            else:
                await lease.again(tx, ends["at"])

    async def revoke(self, call: Call, delegation_id: str) -> Delegation | None:
        """Revoke one of the caller's delegations; None if there is none."""
        async with self.db.transaction(call) as tx:
            if await tx.run(_REVOKE_DELEGATION, tx.tenant, delegation_id, call.user):
                told = DelegationRevoked(delegation_id=delegation_id, user_id=call.user)
                tx.emit(delegation_id, told, [call.user])
                await tx.unschedule(DELEGATION, delegation_id)
            found = await self._get(tx, delegation_id)
        return found if found and found.user_id == call.user else None

    async def _get(self, tx: Transaction, delegation_id: str) -> Delegation | None:
        row = await tx.fetch_one(_DELEGATION, tx.tenant, delegation_id, self.idle)
        return _delegation(row) if row else None


def _delegation(row: Row) -> Delegation:
    return Delegation(
        tenant_id=row["tenant_id"],
        delegation_id=row["id"],
        user_id=row["user_id"],
        actor=row["actor"],
        purpose_id=row["purpose_id"],
        create_time=row["created_at"],
        revoke_time=row["revoked_at"],
        expire_time=row["expires_at"],
        key_expire_time=row["key_expires_at"],
        scopes=frozenset(row["scopes"]),
        ended=row["ended"],
    )


def _key(row: Row) -> ApiKey:
    return ApiKey(
        tenant_id=row["tenant_id"],
        api_key_id=row["id"],
        user_id=row["user_id"],
        display_name=row["display_name"],
        create_time=row["created_at"],
        expire_time=row["expires_at"],
        revoke_time=row["revoked_at"],
        scopes=frozenset(row["scopes"]),
        last_use_time=row["last_used_at"],
    )
