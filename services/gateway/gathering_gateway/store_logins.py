"""Logins and their refresh tokens: one is unused at any time, used ones are remembered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gathering_gateway.events import LoginRefused, UserLoggedIn
from gathering_gateway.models import LoginMethod, Owner, Rotation, User
from gathering_gateway.store import add_lookup
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
_END = """
update login set revoked_at = now() where tenant_id = $1 and id = $2 and revoked_at is null
"""


@dataclass(frozen=True, slots=True)
class LoginStore:
    """Logins."""

    db: Database

    async def begin(self, user: User, lookup: bytes, token: bytes, life: timedelta) -> None:
        """Store a login by password, and drop the user's expired ones."""
        async with self.db.transaction(user.tenant_id) as tx:
            await tx.run(_EXPIRED, tx.tenant, user.user_id)
            login_id = new_id("lgn")
            await add_lookup(tx, lookup, login_id)
            await tx.run(_BEGIN, tx.tenant, login_id, user.user_id, lookup, token, life)
            _tell(tx, user.user_id, LoginMethod.PASSWORD)

    async def rotate(
        self, owner: Owner, presented: bytes, successor: bytes, life: timedelta
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
            if outcome is Rotation.REUSED:
                await tx.run(_END, tx.tenant, owner.id)
                refused = LoginRefused(user_id=row["user_id"], reason="CREDENTIALS_REVOKED")
                tx.emit(row["user_id"], refused, [row["user_id"]])
            elif outcome is Rotation.DONE:
                await tx.run(_USED, tx.tenant, owner.id)
                await tx.run(_NEXT, tx.tenant, owner.id, successor, life)
                await tx.run(_FORGET_USED, tx.tenant, owner.id)
                _tell(tx, row["user_id"], LoginMethod.REFRESH_TOKEN)
            return outcome, row["user_id"]

    async def end(self, owner: Owner, presented: bytes) -> bool:
        """Revoke the login that the presented token, used or not, belongs to."""
        async with self.db.transaction(owner.tenant_id) as tx:
            row = await tx.fetch_one(_LOCK, tx.tenant, owner.id, presented)
            if row is None or not (row["current"] or row["used"]):
                return False
            await tx.run(_END, tx.tenant, owner.id)
            return True

    async def by_key(self, user: User) -> None:
        """Tell the feed that the user came by an API key."""
        async with self.db.transaction(user.tenant_id) as tx:
            _tell(tx, user.user_id, LoginMethod.API_KEY)


def _judged(row: Row | None) -> Rotation:
    if row is None or not (row["current"] or row["used"]):
        return Rotation.UNKNOWN
    if row["revoked_at"] is not None:
        return Rotation.REVOKED
    if row["used"]:
        return Rotation.REUSED
    return Rotation.UNKNOWN if row["expired"] else Rotation.DONE


def _tell(tx: Transaction, user_id: str, method: LoginMethod) -> None:
    tx.emit(user_id, UserLoggedIn(user_id=user_id, method=method.value), [user_id])
