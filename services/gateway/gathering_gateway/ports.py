"""What the verbs need of the world."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from gathering_gateway.models import (
    ApiKey,
    Attempts,
    Delegation,
    Invitation,
    LoginSession,
    NewApiKey,
    NewInvitation,
    Owner,
    Role,
    Rotation,
    User,
)
from gathering_gateway.models_audit import AuditEntry, AuditFilter
from gathering_gateway.models_feed import Batch, Place, Watcher
from gathering_mesh.call import Call
from gathering_mesh.eventfilter import EventFilter
from gathering_mesh.keys import SigningKey


class Directory(Protocol):
    """What is known over all tenants: whose a credential is, and how often it was tried."""

    async def owner(self, key: bytes) -> Owner | None:
        """Return whose credential has this look-up key."""

    async def attempt(self, key: bytes, window: timedelta) -> Attempts:
        """Count an attempt; it stays counted, whatever comes of it, until `forget`."""

    async def forget(self, key: bytes) -> None:
        """Count the attempts of this key anew."""


class Users(Protocol):
    """The users of a tenant."""

    async def create(self, call: Call, email: str, name: str, role: Role, password: str) -> User:
        """Store a user with the hash of a password, once per request id. Raises EmailTaken."""

    async def created(self, call: Call) -> User | None:
        """Return the user that a call with this request id has created already."""

    async def get(self, tenant: str, user: str) -> User | None:
        """Return a user."""

    async def password_hash(self, tenant: str, user: str) -> tuple[User, str] | None:
        """Return a user with the hash of the password."""

    async def page(self, tenant: str, after: str, limit: int) -> Sequence[User]:
        """Return users by e-mail, those after one."""

    async def refused(self, known: Call, reason: str) -> None:
        """Tell the feed that a login of this user was refused."""


class Members(Protocol):
    """What administrators do with users, each once per request id. Raises Missing."""

    async def change_role(self, call: Call, user_id: str, role: Role) -> User:
        """Give a user a role. Raises LastAdministrator."""

    async def disable(self, call: Call, user_id: str) -> User:
        """Keep a user out and end their logins. Raises LastAdministrator."""

    async def enable(self, call: Call, user_id: str) -> User:
        """Let a user in again."""

    async def set_password(self, call: Call, user_id: str, old: str, new: str) -> User | None:
        """Put a hash in the place of another and end the logins; None where it is another."""


class Invitations(Protocol):
    """Rights to set a password once."""

    async def create(self, call: Call, new: NewInvitation, lookup: bytes,
                     hash: bytes) -> Invitation:  # fmt: skip
        """Store an invitation in the place of an open one of the address. Raises EmailTaken."""

    async def find(self, owner: Owner) -> tuple[Invitation, bytes] | None:
        """Return an invitation with the hash of its secret."""

    async def accept(self, call: Call, found: Invitation, password: str) -> User | None:
        """Create the user or set the password; None where it is no longer open."""

    async def page(self, call: Call, before: str, limit: int) -> Sequence[Invitation]:
        """Return the open ones, newest first, those before one."""

    async def revoke(self, call: Call, invitation_id: str) -> Invitation:
        """Revoke an open one, once per request id. Raises Missing."""


class Logins(Protocol):
    """Logins and their refresh tokens; `life` is that of a refresh token."""

    async def begin(self, known: Call, password: str, lookup: bytes, token: bytes,
                    life: timedelta) -> bool:  # fmt: skip
        """Store a login with the hash of its first refresh token.

        Not where the hash of the password is another by now, or the user was disabled.
        """

    async def rotate(
        self, call: Call, owner: Owner, presented: bytes, successor: bytes, life: timedelta
    ) -> tuple[Rotation, str]:
        """Put a refresh token in the place of the presented one; return also the user's id.

        One that was used before ends the login.
        """

    async def end(self, owner: Owner, presented: bytes) -> bool:
        """Revoke the login that the presented token, used or not, belongs to."""

    async def by_key(self, known: Call, api_key_id: str) -> bool:
        """Tell the feed that the user came by an API key, and note when.

        Not where the key was revoked by now, or the user disabled.
        """

    async def end_all(self, call: Call, user_id: str) -> User:
        """End all logins of a user, once per request id. Raises Missing."""

    async def page(self, call: Call, before: str, limit: int) -> Sequence[LoginSession]:
        """Return the caller's logins that have not ended, newest first, those before one."""


class ApiKeys(Protocol):
    """API keys."""

    async def create(self, call: Call, new: NewApiKey, lookup: bytes, hash: bytes) -> ApiKey:
        """Store a key of the caller."""

    async def find(self, owner: Owner) -> tuple[ApiKey, bytes] | None:
        """Return a key with the hash of its secret."""

    async def page(self, call: Call, before: str, limit: int) -> Sequence[ApiKey]:
        """Return the caller's keys, newest first, those before one."""

    async def revoke(self, call: Call, api_key_id: str) -> ApiKey | None:
        """Revoke one of the caller's keys; None if there is none."""


class DelegationRows(Protocol):
    """Delegations."""

    async def create(self, call: Call, actor: str, purpose_id: str) -> Delegation:
        """Store the caller's delegation to a service, once per request id."""

    async def get(self, tenant: str, delegation_id: str) -> Delegation | None:
        """Return a delegation."""

    async def used(self, tenant: str, delegation_id: str) -> None:
        """Note that a token was made from a delegation."""

    async def revoke(self, call: Call, delegation_id: str) -> Delegation | None:
        """Revoke one of the caller's delegations; None if there is none."""


class AuditRows(Protocol):
    """What was done."""

    async def page(self, call: Call, only: AuditFilter, last: tuple[datetime, str] | None,
                   limit: int) -> Sequence[AuditEntry]:  # fmt: skip
        """Return entries, newest first, those after the last one."""


class Passwords(Protocol):
    """Slow hashes, computed off the event loop."""

    async def hash(self, password: str) -> str:
        """Return what to store. Raises Overloaded."""

    async def verify(self, password: str, stored: str | None) -> bool:
        """Tell whether it is the password; takes as long without a hash. Raises Overloaded."""


class Signing(Protocol):
    """The keys that users' tokens are signed with."""

    async def signing(self) -> SigningKey:
        """Return the key that signs now."""


class EventSource(Protocol):
    """The event log of one service, with its recent entries at hand."""

    @property
    def name(self) -> str:
        """The service."""

    @property
    def head(self) -> Place | None:
        """The newest place that is known; None before the log was reached."""

    @property
    def changed(self) -> asyncio.Event:
        """Set when there is more; take it before `read`, wait for it after."""

    @property
    def watchers(self) -> set[Watcher]:
        """Those who are woken for what concerns them; theirs to add and to discard."""

    def recent(self, after: Place, only: EventFilter, limit: int) -> Batch | None:
        """Pass at most so many entries after a place; None where they are not in memory."""

    async def read(self, after: Place, only: EventFilter, limit: int) -> Batch:
        """Pass at most so many entries after a place. Unavailable where the log cannot be had."""
