"""Change who belongs to a tenant, as what, and by which password."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gathering_gateway.accounts import refuse_lent
from gathering_gateway.errors import CredentialsInvalid, Missing, NotAllowed
from gathering_gateway.logins import Door
from gathering_gateway.models import LoginSession, Role, User
from gathering_gateway.ports import Logins, Members, Passwords, Users
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint

_ADMINISTRATION = "users.admin"


@dataclass(frozen=True, slots=True)
class Membership:
    """What administrators do with users, and users with their own passwords and logins."""

    users: Users
    members: Members
    logins: Logins
    passwords: Passwords
    door: Door

    async def get(self, call: Call, user_id: str) -> User:
        """Return a user of the tenant."""
        return _found(await self.users.get(call.tenant, user_id))

    async def change_role(self, call: Call, user_id: str, role: Role) -> User:
        """Give a user another role."""
        refuse_lent(call)
        return await self.members.change_role(call, user_id, role)

    async def disable(self, call: Call, user_id: str) -> User:
        """Keep a user out."""
        refuse_lent(call)
        return await self.members.disable(call, user_id)

    async def enable(self, call: Call, user_id: str) -> User:
        """Let a user in again."""
        refuse_lent(call)
        return await self.members.enable(call, user_id)

    async def change_password(self, call: Call, old: str, new: str) -> User:
        """Change the caller's password, who proves to know the old one; end their logins."""
        refuse_lent(call)
        me = _found(await self.users.get(call.tenant, call.user))
        _, stored = await self.door.prove(call, me.email, old)
        hashed = await self.passwords.hash(new)
        changed = await self.members.set_password(call, call.user, stored, hashed)
        if changed is None:
            raise CredentialsInvalid("the password was changed meanwhile")
        return changed

    async def end_logins(self, call: Call, user_id: str) -> User:
        """End all logins of the caller, or of another where an administrator asks."""
        user_id = user_id or call.user
        if user_id != call.user and _ADMINISTRATION not in call.principal.scopes:
            raise NotAllowed("only administrators end the logins of others")
        return await self.logins.end_all(call, user_id)

    async def page(self, call: Call, size: int, token: str) -> tuple[Sequence[LoginSession], str]:
        """Return a page of the caller's logins, newest first, and the token of the next."""
        limit = page_size(size)
        query = query_fingerprint("logins", call.tenant, call.user)
        before = decode_token(query, token)
        found = await self.logins.page(call, str(before[0]) if before else "", limit + 1)
        more = len(found) > limit
        return found[:limit], encode_token(query, [found[limit - 1].login_id]) if more else ""


def _found(user: User | None) -> User:
    if user is None:
        raise Missing("user")
    return user
