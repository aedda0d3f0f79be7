"""What administrators change of users: a transaction per method, named for its effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gathering_gateway.errors import LastAdministrator, Missing
from gathering_gateway.events import PasswordChanged, UserDisabled, UserEnabled, UserRoleChanged
from gathering_gateway.models import Role, User
from gathering_gateway.store import get_member
from gathering_gateway.store_logins import revoke_logins
from gathering_mesh.call import Call
from gathering_mesh.postgres import Database, Transaction

# In the order of their ids: of two administrators who demote each other, one comes too late.
_ADMINISTRATORS = """
select id from member where tenant_id = $1 and role = 'admin' and disabled_at is null
order by id for update
"""
_LOCK = "select 1 from member where tenant_id = $1 and id = $2 for update"
_ROLE = "update member set role = $3 where tenant_id = $1 and id = $2 and role <> $3"
_DISABLE = """
update member set disabled_at = now() where tenant_id = $1 and id = $2 and disabled_at is null
"""
_ENABLE = """
update member set disabled_at = null where tenant_id = $1 and id = $2 and disabled_at is not null
"""
_PASSWORD = "update member set password_hash = $3 where tenant_id = $1 and id = $2"  # noqa: S105 (SQL)
_CHANGE = f"{_PASSWORD} and password_hash = $4"

Effect = Callable[[Transaction, User], Awaitable[None]]


async def set_password(tx: Transaction, user_id: str, new: str, old: str | None = None) -> bool:
    """Set the hash of a user's password and end their logins; with `old`, only in its place."""
    change = (_PASSWORD, new) if old is None else (_CHANGE, new, old)
    if not await tx.run(change[0], tx.tenant, user_id, *change[1:]):
        return False
    await revoke_logins(tx, user_id)
    tx.emit(user_id, PasswordChanged(user_id=user_id), [user_id])
    return True


@dataclass(frozen=True, slots=True)
class MemberStore:
    """The users of a tenant, for its administrators."""

    db: Database

    async def change_role(self, call: Call, user_id: str, role: Role) -> User:
        """Give a user a role, once per request id."""

        async def effect(tx: Transaction, user: User) -> None:
            if role is not Role.ADMIN:
                await _keep_administrator(tx, user_id)
            if await tx.run(_ROLE, tx.tenant, user_id, role.value):
                told = UserRoleChanged(
                    user_id=user_id, role=role.value, earlier_role=user.role.value
                )
                tx.emit(user_id, told, [user_id])

        return await self._changed(call, user_id, effect)

    async def disable(self, call: Call, user_id: str) -> User:
        """Keep a user out and end their logins, once per request id."""

        async def effect(tx: Transaction, user: User) -> None:
            await _keep_administrator(tx, user_id)
            if await tx.run(_DISABLE, tx.tenant, user_id):
                tx.emit(user_id, UserDisabled(user_id=user_id), [user_id])
                await revoke_logins(tx, user_id)

        return await self._changed(call, user_id, effect)

    async def enable(self, call: Call, user_id: str) -> User:
        """Let a user in again, once per request id."""

        async def effect(tx: Transaction, user: User) -> None:
            if await tx.run(_ENABLE, tx.tenant, user_id):
                tx.emit(user_id, UserEnabled(user_id=user_id), [user_id])

        return await self._changed(call, user_id, effect)

    async def set_password(self, call: Call, user_id: str, old: str, new: str) -> User | None:
        """Put a hash in the place of another and end the logins."""
        async with self.db.transaction(call) as tx:
            if not await set_password(tx, user_id, new, old):
                return None
            return await get_member(tx, tx.tenant, user_id)

    async def _changed(self, call: Call, user_id: str, effect: Effect) -> User:
        async with self.db.mutation(call) as tx:
            tx.result = user_id
            if not tx.replay:
                # Administrators first, then the user: everybody locks in this order.
                await tx.fetch(_ADMINISTRATORS, tx.tenant)
                await tx.fetch(_LOCK, tx.tenant, user_id)
                await effect(tx, await _present(tx, user_id))
            return await _present(tx, user_id)


async def _present(tx: Transaction, user_id: str) -> User:
    user = await get_member(tx, tx.tenant, user_id)
    if user is None:
        raise Missing("user")
    return user


async def _keep_administrator(tx: Transaction, leaving: str) -> None:
    """Refuse to take away the last one; all are locked already, so the answer stays true."""
    if {row["id"] for row in await tx.fetch(_ADMINISTRATORS, tx.tenant)} == {leaving}:
        raise LastAdministrator
