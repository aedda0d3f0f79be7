"""What the gateway refuses, each with its reason."""

from __future__ import annotations

from gathering_mesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)


class CredentialsInvalid(Unauthenticated):
    """E-mail, password, key or token are wrong; which of them, is not said."""

    reason = "CREDENTIALS_INVALID"


class CredentialsRevoked(Unauthenticated):
    """The credential was good once and was ended."""

    reason = "CREDENTIALS_REVOKED"


class RateLimited(ResourceExhausted):
    """Too many attempts; `retry_after` says when the next may come."""

    reason = "RATE_LIMITED"


class Overloaded(ResourceExhausted):
    """More passwords wait to be checked than the processors can check soon."""

    reason = "OVERLOADED"


class EmailTaken(AlreadyExists):
    """A user with this e-mail address exists, in this tenant or another."""

    def __init__(self) -> None:
        super().__init__(
            "a user with this e-mail address exists", fields={"email": "is in use already"}
        )


class LastAdministrator(FailedPrecondition):
    """The tenant would be left without an administrator who can log in."""

    reason = "WRONG_STATE"

    def __init__(self) -> None:
        super().__init__("this is the tenant's last administrator", metadata={"state": "last"})


class ScopesRefused(InvalidArgument):
    """A key was to have scopes that its user does not have."""

    reason = "INVALID_FIELD"

    def __init__(self, unknown: str) -> None:
        super().__init__(
            f"not scopes of yours: {unknown}", fields={"scopes": f"{unknown}: not yours"}
        )


class ActorRefused(PermissionDenied):
    """The service, or the delegation that it acts by, does not allow this."""

    reason = "ACTOR_REFUSED"


class NotAllowed(PermissionDenied):
    """The credential that the token was made from does not allow this."""

    reason = "NOT_ALLOWED"


class Missing(NotFound):
    """There is no such resource, or it is another user's."""

    def __init__(self, resource: str) -> None:
        super().__init__(f"there is no such {resource}", metadata={"resource": resource})


class InvalidCursor(InvalidArgument):
    """The cursor was not made by this feed."""

    reason = "INVALID_CURSOR"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the cursor {problem}", fields={"cursor": problem})
