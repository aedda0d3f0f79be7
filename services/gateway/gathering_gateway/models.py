"""Users, credentials and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Role(StrEnum):
    """What a user may do in the tenant."""

    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


# Every scope that an RPC of the contract asks for; a test compares.
SCOPES = frozenset(
    {
        "agents.read", "agents.write", "circles.read", "circles.write", "events.read",
        "memory.read", "memory.write", "models.admin", "sessions.read", "sessions.write",
        "skills.admin",
        "skills.approve", "skills.execute", "skills.read", "tasks.read", "tasks.write",
        "users.admin", "users.self", "workspaces.admin", "workspaces.read",
    }
)  # fmt: skip
_ADMINISTRATIVE = frozenset({"models.admin", "skills.admin", "users.admin", "workspaces.admin"})
ROLE_SCOPES = {
    Role.ADMIN: SCOPES,
    Role.MEMBER: SCOPES - _ADMINISTRATIVE,
    Role.VIEWER: frozenset(s for s in SCOPES if s.endswith(".read")) | {"users.self"},
}


class LoginMethod(StrEnum):
    """How a user proved to be who they are."""

    PASSWORD = "password"  # noqa: S105 (a word, not a password)
    API_KEY = "api_key"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 (as above)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in; `email` is in lower case."""

    tenant_id: str
    user_id: str
    email: str
    display_name: str
    role: Role
    create_time: datetime
    disable_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user to make."""

    email: str
    password: str
    display_name: str
    role: Role


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key to make; without a life it has no end, without scopes all of its user's."""

    display_name: str
    life: timedelta | None
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key for programs; its secret is not kept."""

    tenant_id: str
    api_key_id: str
    user_id: str
    display_name: str
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    scopes: frozenset[str]  # empty: all of the user's
    last_use_time: datetime | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """The right to set a password once; `user_id` is empty until a new user came of it."""

    tenant_id: str
    invitation_id: str
    email: str
    display_name: str
    role: Role
    inviter_user_id: str
    user_id: str
    create_time: datetime
    expire_time: datetime
    accept_time: datetime | None
    revoke_time: datetime | None


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """An invitation to make; with a `user_id`, to set that user's password anew."""

    email: str
    display_name: str
    role: Role
    life: timedelta
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class LoginSession:
    """A login that has not ended."""

    login_id: str
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Delegation:
    """The right of a service to act for a user.

    `ended` is true where it was revoked or not used for long, where its user is disabled, or where
    what it was made under has ended: another delegation, an API key. `key_expire_time` is when the
    first of those keys ends, `expire_time` when it ends unless it is used before.
    """

    tenant_id: str
    delegation_id: str
    user_id: str
    actor: str
    purpose_id: str
    create_time: datetime
    revoke_time: datetime | None
    expire_time: datetime
    key_expire_time: datetime | None
    scopes: frozenset[str]  # empty: all of the user's
    ended: bool


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A signed token of a user."""

    text: str
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives; `refresh_token` is empty where an API key was exchanged."""

    access: AccessToken
    refresh_token: str
    user: User


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose credential it is: what the look-up over all tenants answers."""

    tenant_id: str
    id: str  # of the user, API key or login, by the kind of credential


class Rotation(StrEnum):
    """What became of a presented refresh token."""

    DONE = "done"  # it was the current one and is used up now
    UNKNOWN = "unknown"  # no token of this login, or it has expired
    REVOKED = "revoked"  # the login had been ended
    REUSED = "reused"  # it was used before: the login is ended now


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often a login was tried in the present window, this time included."""

    count: int
    seconds_left: float


@dataclass(frozen=True, slots=True)
class PasswordCost:
    """What a password costs to check: RFC 9106's second choice, some 50 ms and 64 MiB."""

    passes: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 4
    threads: int = 2  # at once
    waiting: int = 64  # beside those
