"""Invite people, who set their passwords themselves; nothing is mailed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gathering_gateway.accounts import refuse_lent
from gathering_gateway.errors import CredentialsInvalid, CredentialsRevoked, Missing
from gathering_gateway.models import Invitation, NewInvitation, Role, User
from gathering_gateway.models_credentials import INVITATION, Secret, normal_email
from gathering_gateway.ports import Directory, Invitations, Passwords, Users
from gathering_mesh.call import Call
from gathering_mesh.paging import decode_token, encode_token, page_size, query_fingerprint

_LIFE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Inviting:
    """Invitations of a tenant."""

    directory: Directory
    users: Users
    rows: Invitations
    passwords: Passwords

    async def create(
        self, call: Call, email: str, name: str, role: Role, life: timedelta | None
    ) -> tuple[Invitation, str]:
        """Return a new invitation and its secret, which is not kept."""
        return await self._made(call, NewInvitation(normal_email(email), name, role, life or _LIFE))

    async def reset(
        self, call: Call, user_id: str, life: timedelta | None
    ) -> tuple[Invitation, str]:
        """Return an invitation of a user to set another password."""
        user = await self.users.get(call.tenant, user_id)
        if user is None:
            raise Missing("user")
        new = NewInvitation(user.email, user.display_name, user.role, life or _LIFE, user_id)
        return await self._made(call, new)

    async def accept(self, call: Call, text: str, password: str) -> User:
        """Set the password that an invitation is for; the slow hash comes after the proof."""
        secret = Secret.read(INVITATION, text)
        owner = await self.directory.owner(secret.lookup) if secret else None
        found = await self.rows.find(owner) if owner else None
        if secret is None or found is None or not secret.proves(found[1]):
            raise CredentialsInvalid("the invitation is wrong")
        _refuse_ended(found[0])
        hashed = await self.passwords.hash(password)
        known = call.known_as(found[0].tenant_id, found[0].user_id)
        user = await self.rows.accept(known, found[0], hashed)
        if user is None:
            raise CredentialsRevoked("the invitation was accepted or revoked meanwhile")
        return user

    async def page(self, call: Call, size: int, token: str) -> tuple[Sequence[Invitation], str]:
        """Return a page of open invitations, newest first, and the token of the next."""
        limit = page_size(size)
        query = query_fingerprint("invitations", call.tenant)
        before = decode_token(query, token)
        found = await self.rows.page(call, str(before[0]) if before else "", limit + 1)
        more = len(found) > limit
        return found[:limit], encode_token(query, [found[limit - 1].invitation_id]) if more else ""

    async def revoke(self, call: Call, invitation_id: str) -> Invitation:
        """Revoke an invitation."""
        return await self.rows.revoke(call, invitation_id)

    async def _made(self, call: Call, new: NewInvitation) -> tuple[Invitation, str]:
        refuse_lent(call)
        secret = Secret.generate(INVITATION)
        return await self.rows.create(call, new, secret.lookup, secret.hash), secret.text


def _refuse_ended(found: Invitation) -> None:
    if found.accept_time is not None or found.revoke_time is not None:
        raise CredentialsRevoked("the invitation was accepted or revoked")
    if found.expire_time <= datetime.now(UTC):
        raise CredentialsInvalid("the invitation has expired")
