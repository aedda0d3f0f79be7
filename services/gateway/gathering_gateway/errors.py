"""What the gateway refuses, each with its reason."""

from __future__ import annotations

from gathering_mesh.errors import (
    AlreadyExists,
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
