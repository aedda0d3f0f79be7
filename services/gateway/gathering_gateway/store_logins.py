"""Logins and their refresh tokens: one is unused at any time, used ones are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from gathering_gateway.errors import Missing
from gathering_gateway.events import LoginRefused, LoginsRevoked, UserLoggedIn
from gathering_gateway.models import LoginMethod, LoginSession, Owner, Rotation, User
from gathering_gateway.store import add_lookup, get_member
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.statements import Row

_EXPIRED = """
with gone as (
    delete from login where tenant_id = $1 and user_id = $2 and expires_at < now()
    returning lookup_key)
delete from lookup where tenant_id = $1 and key in (select lookup_key from gone)
"""
_BEGIN = """
insert into login (tenant_id, id, user_id, lookup_key, current_hash, expires_at)
values ($1, $2, $3, $4, $5, now() + $6::interval)
"""
# Locks the login: of two that come with the same token one is first, the other comes too late.
_LOCK = """
select *, expires_at < now() as expired, current_hash = $3 as current, exists (
    select from used_refresh_token u
    where u.tenant_id = l.tenant_id and u.login_id = l.id and u.hash = $3) as used
from login l where tenant_id = $1 and id = $2 for update
"""
_USED = """
insert into used_refresh_token (tenant_id, login_id, hash, expires_at)
select tenant_id, id, current_hash, expires_at from login where tenant_id = $1 and id = $2
"""
_NEXT = """
update login set current_hash = $3, expires_at = now() + $4::interval
where tenant_id = $1 and id = $2
"""
_FORGET_USED = """
delete from used_refresh_token where tenant_id = $1 and login_id = $2 and expires_at < now()
"""
_END_ALL = """
update login set revoked_at = now() where tenant_id = $1 and user_id = $2 and revoked_at is null
"""
_OPEN = """
select id, created_at, expires_at from login
where tenant_id = $1 and user_id = $2 and revoked_at is null and expires_at > now()
and ($3 = '' or id < $3) order by id desc limit $4
"""
# Locks the user: a change of password or state comes before this login or after it.
_STILL = """
select 1 from member where tenant_id = $1 and id = $2 and password_hash = $3
and disabled_at is null for update
"""
_KEY_USED = """
update api_key set last_used_at = now() where tenant_id = $1 and id = $2
and (last_used_at is null or last_used_at < now() - interval '1 minute')
"""
# After the update, so that twins do not wait for each other. A revocation comes before or after.
_KEY_STILL = """
select 1 from api_key k join member m on m.tenant_id = k.tenant_id and m.id = k.user_id
where k.tenant_id = $1 and k.id = $2 and k.revoked_at is null and m.disabled_at is null for share
"""
_END = """
update login set revoked_at = now() where tenant_id = $1 and id = $2 and revoked_at is null
"""


@dataclass(frozen=True, slots=True)
class LoginStore:
    """Logins."""

    db: Database

    async def begin(
        self, known: Call, password: str, lookup: bytes, token: bytes, life: timedelta
    ) -> bool:
        """Store a login by password, and drop the user's expired ones.

        Not where the user has another password by now, or was disabled: whoever ended the logins
        while the password was looked at has not seen this one.
        """
        async with self.db.transaction(known) as tx:
            if not await tx.fetch_one(_STILL, tx.tenant, known.user, password):
                return False
            await tx.run(_EXPIRED, tx.tenant, known.user)
            login_id = new_id("lgn")
            await add_lookup(tx, lookup, login_id)
            await tx.run(_BEGIN, tx.tenant, login_id, known.user, lookup, token, life)
            _tell(tx, known, LoginMethod.PASSWORD)
            return True

    async def rotate(
        self, call: Call, owner: Owner, presented: bytes, successor: bytes, life: timedelta
    ) -> tuple[Rotation, str]:
        """Put a refresh token in the place of the presented one; return also the user's id."""
        async with self.db.transaction(owner.tenant_id) as tx:
            # Two statements: the second one's snapshot is younger than the lock, so that the
            # second of two twins finds the token among the used ones.
            await tx.fetch_one("select from login where tenant_id = $1 and id = $2 for update",
                               tx.tenant, owner.id)  # fmt: skip
            row = await tx.fetch_one(_LOCK, tx.tenant, owner.id, presented)
            outcome = _judged(row)
            if row is None:
                return outcome, ""
            known = call.known_as(owner.tenant_id, row["user_id"])
            tx.attribute(known)
            if outcome is Rotation.REUSED:
                await tx.run(_END, tx.tenant, owner.id)
                refused = LoginRefused(
                    user_id=known.user, reason="CREDENTIALS_REVOKED", address=call.address
                )
                tx.emit(known.user, refused, [known.user])
            elif outcome is Rotation.DONE:
                await tx.run(_USED, tx.tenant, owner.id)
                await tx.run(_NEXT, tx.tenant, owner.id, successor, life)
                await tx.run(_FORGET_USED, tx.tenant, owner.id)
                _tell(tx, known, LoginMethod.REFRESH_TOKEN)
            return outcome, row["user_id"]

    async def end(self, owner: Owner, presented: bytes) -> bool:
        """Revoke the login that the presented token, used or not, belongs to."""
        async with self.db.transaction(owner.tenant_id) as tx:
            row = await tx.fetch_one(_LOCK, tx.tenant, owner.id, presented)
            if row is None or not (row["current"] or row["used"]):
                return False
            await tx.run(_END, tx.tenant, owner.id)
            return True

    async def by_key(self, known: Call, api_key_id: str) -> bool:
        """Tell the feed that the user came by an API key, and note when.

        Not where the key was revoked by now, or the user disabled.
        """
        async with self.db.transaction(known) as tx:
            await tx.run(_KEY_USED, tx.tenant, api_key_id)
            if not await tx.fetch_one(_KEY_STILL, tx.tenant, api_key_id):
                return False
            _tell(tx, known, LoginMethod.API_KEY)
            return True

    async def end_all(self, call: Call, user_id: str) -> User:
        """End all logins of a user, once per request id."""
        async with self.db.mutation(call) as tx:
            user = await get_member(tx, tx.tenant, user_id)
            if user is None:
                raise Missing("user")
            if not tx.replay:
                await revoke_logins(tx, user_id)
            tx.result = user_id
        return user

    async def page(self, call: Call, before: str, limit: int) -> Sequence[LoginSession]:
        """Return the caller's logins that have not ended, newest first, those before one."""
        async with self.db.transaction(call) as tx:
            rows = await tx.fetch(_OPEN, tx.tenant, call.user, before, limit)
        return [LoginSession(row["id"], row["created_at"], row["expires_at"]) for row in rows]


async def revoke_logins(tx: Transaction, user_id: str) -> None:
    """End all logins of a user."""
    if await tx.run(_END_ALL, tx.tenant, user_id):
        tx.emit(user_id, LoginsRevoked(user_id=user_id), [user_id])


def _judged(row: Row | None) -> Rotation:
    if row is None or not (row["current"] or row["used"]):
        return Rotation.UNKNOWN
    if row["revoked_at"] is not None:
        return Rotation.REVOKED
    if row["used"]:
        return Rotation.REUSED
    return Rotation.UNKNOWN if row["expired"] else Rotation.DONE


def _tell(tx: Transaction, known: Call, method: LoginMethod) -> None:
    told = UserLoggedIn(user_id=known.user, method=method.value, address=known.address)
    tx.emit(known.user, told, [known.user])
