"""Invitations: found over all tenants by their secret's handle, accepted once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gathering_gateway.errors import EmailTaken, Missing
from gathering_gateway.events import InvitationAccepted, InvitationRevoked, UserInvited
from gathering_gateway.models import Invitation, NewInvitation, Owner, Role, User
from gathering_gateway.store import add_lookup, add_member, get_member
from gathering_gateway.store_members import set_password
from gathering_mesh.call import Call
from gathering_mesh.ids import new_id
from gathering_mesh.postgres import Database, Transaction
from gathering_mesh.statements import Row

_TAKEN = "select 1 from member where tenant_id = $1 and email = $2"
_NEW = """
insert into invitation (tenant_id, id, email, display_name, role, user_id, inviter_id, lookup_key,
    hash, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10::interval) returning *
"""
# Two for one address come one after the other, also where none is open whose row could be locked.
_TURN = "select pg_advisory_xact_lock(hashtextextended('invitation ' || $1 || ' ' || $2, 0))"
_REPLACE = """
update invitation set revoked_at = now()
where tenant_id = $1 and email = $2 and accepted_at is null and revoked_at is null
returning id
"""
_GET = "select * from invitation where tenant_id = $1 and id = $2"
_TAKE = """
update invitation set accepted_at = now()
where tenant_id = $1 and id = $2 and accepted_at is null and revoked_at is null
and expires_at > now() returning *
"""
_CAME = "update invitation set user_id = $3 where tenant_id = $1 and id = $2"
_PAGE = """
select * from invitation where tenant_id = $1 and accepted_at is null and revoked_at is null
and expires_at > now() and ($2 = '' or id < $2) order by id desc limit $3
"""
_REVOKE = """
update invitation set revoked_at = now()
where tenant_id = $1 and id = $2 and accepted_at is null and revoked_at is null
"""


@dataclass(frozen=True, slots=True)
class InvitationStore:
    """Invitations."""

    db: Database

    async def create(
        self, call: Call, new: NewInvitation, lookup: bytes, hash: bytes
    ) -> Invitation:
        """Store an invitation in the place of an open one of the address."""
        made = new_id("inv")
        async with self.db.transaction(call) as tx:
            await tx.fetch(_TURN, tx.tenant, new.email)
            if not new.user_id and await tx.fetch_one(_TAKEN, tx.tenant, new.email):
                raise EmailTaken
            for replaced in await tx.fetch(_REPLACE, tx.tenant, new.email):
                _tell_revoked(tx, replaced["id"])
            await add_lookup(tx, lookup, made)
            row = await tx.fetch_one(
                _NEW, tx.tenant, made, new.email, new.display_name, new.role.value,
                new.user_id or None, call.user, lookup, hash, new.life,
            )  # fmt: skip
            told = UserInvited(
                invitation_id=made,
                inviter_user_id=call.user,
                user_id=new.user_id,
                role=new.role.value,
            )
            tx.emit(made, told, [call.user])
        assert row is not None  # noqa: S101 (an insert returns its row)
        return _invitation(row)

    async def find(self, owner: Owner) -> tuple[Invitation, bytes] | None:
        """Return an invitation with the hash of its secret."""
        async with self.db.transaction(owner.tenant_id) as tx:
            row = await tx.fetch_one(_GET, tx.tenant, owner.id)
        return (_invitation(row), row["hash"]) if row else None

    async def accept(self, call: Call, found: Invitation, password: str) -> User | None:
        """Create the user or set the password; of twins one finds it open."""
        async with self.db.transaction(call) as tx:
            if not await tx.fetch_one(_TAKE, tx.tenant, found.invitation_id):
                return None
            if found.user_id:
                await set_password(tx, found.user_id, password)
                user = await get_member(tx, tx.tenant, found.user_id)
                assert user is not None  # noqa: S101 (users are not deleted)
            else:
                user = await add_member(tx, found.email, found.display_name, found.role, password)
                await tx.run(_CAME, tx.tenant, found.invitation_id, user.user_id)
            told = InvitationAccepted(invitation_id=found.invitation_id, user_id=user.user_id)
            tx.emit(found.invitation_id, told, [user.user_id])
        return user

    async def page(self, call: Call, before: str, limit: int) -> Sequence[Invitation]:
        """Return the open ones, newest first, those before one."""
        async with self.db.transaction(call) as tx:
            return [_invitation(row) for row in await tx.fetch(_PAGE, tx.tenant, before, limit)]

    async def revoke(self, call: Call, invitation_id: str) -> Invitation:
        """Revoke an open one, once per request id."""
        async with self.db.mutation(call) as tx:
            tx.result = invitation_id
            if not tx.replay and await tx.run(_REVOKE, tx.tenant, invitation_id):
                _tell_revoked(tx, invitation_id)
            row = await tx.fetch_one(_GET, tx.tenant, invitation_id)
            if row is None:
                raise Missing("invitation")
        return _invitation(row)


def _tell_revoked(tx: Transaction, invitation_id: str) -> None:
    administrators_only = ["nobody"]  # an empty audience would be all of the tenant
    tx.emit(invitation_id, InvitationRevoked(invitation_id=invitation_id), administrators_only)


def _invitation(row: Row) -> Invitation:
    return Invitation(
        tenant_id=row["tenant_id"],
        invitation_id=row["id"],
        email=row["email"],
        display_name=row["display_name"],
        role=Role(row["role"]),
        inviter_user_id=row["inviter_id"],
        user_id=row["user_id"] or "",
        create_time=row["created_at"],
        expire_time=row["expires_at"],
        accept_time=row["accepted_at"],
        revoke_time=row["revoked_at"],
    )
