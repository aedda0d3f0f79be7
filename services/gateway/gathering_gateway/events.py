"""What the gateway tells the feed; fields as in `gathering.events.v1`."""

from __future__ import annotations

from dataclasses import dataclass

from gathering_mesh.events import DomainEvent


@dataclass(frozen=True)
class UserCreated(DomainEvent):
    """A user was created."""

    user_id: str
    role: str


@dataclass(frozen=True)
class UserLoggedIn(DomainEvent):
    """A user got tokens."""

    user_id: str
    method: str
    address: str


@dataclass(frozen=True)
class LoginRefused(DomainEvent):
    """A password, key or token of a known user was refused."""

    user_id: str
    reason: str
    address: str


@dataclass(frozen=True)
class ApiKeyCreated(DomainEvent):
    """An API key was created."""

    api_key_id: str
    user_id: str


@dataclass(frozen=True)
class ApiKeyRevoked(DomainEvent):
    """An API key was revoked."""

    api_key_id: str
    user_id: str


@dataclass(frozen=True)
class DelegationCreated(DomainEvent):
    """A user let a service act beyond the life of a token."""

    delegation_id: str
    user_id: str
    actor: str
    purpose_id: str


@dataclass(frozen=True)
class DelegationRevoked(DomainEvent):
    """A delegation was revoked."""

    delegation_id: str
    user_id: str


@dataclass(frozen=True)
class UserInvited(DomainEvent):
    """Somebody was invited to set a password."""

    invitation_id: str
    inviter_user_id: str
    user_id: str
    role: str


@dataclass(frozen=True)
class InvitationAccepted(DomainEvent):
    """An invitation was accepted."""

    invitation_id: str
    user_id: str


@dataclass(frozen=True)
class InvitationRevoked(DomainEvent):
    """An invitation was revoked."""

    invitation_id: str


@dataclass(frozen=True)
class UserRoleChanged(DomainEvent):
    """A user has another role."""

    user_id: str
    role: str
    earlier_role: str


@dataclass(frozen=True)
class UserDisabled(DomainEvent):
    """A user was disabled."""

    user_id: str


@dataclass(frozen=True)
class UserEnabled(DomainEvent):
    """A user was enabled."""

    user_id: str


@dataclass(frozen=True)
class PasswordChanged(DomainEvent):
    """A user's password was changed."""

    user_id: str


@dataclass(frozen=True)
class LoginsRevoked(DomainEvent):
    """All logins of a user were ended."""

    user_id: str
