"""What can go wrong, as types: one class per canonical gRPC status.

Services subclass these in their own `errors.py` with a reason of their own. This module knows no
gRPC and no protobuf; `gathering_mesh.status` turns an error into a status and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

_NOTHING: Mapping[str, str] = MappingProxyType({})


class DomainError(Exception):
    """An expected failure that the caller is told about, in words and as a stable reason.

    `message` is shown to callers, so it names no secret and no other tenant's data.
    `fields` maps a field path to what is wrong with it; `metadata` are stable keys for programs;
    `retry_after` is in seconds.
    """

    status: ClassVar[str] = "INTERNAL"
    reason: str = "INTERNAL"  # a value of gathering.errors.v1.ErrorReason without its prefix

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        fields: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.fields: Mapping[str, str] = dict(fields) if fields else _NOTHING
        self.metadata: Mapping[str, str] = dict(metadata) if metadata else _NOTHING
        self.retry_after = retry_after


class InvalidArgument(DomainError):
    """The request is wrong whatever the state of the system; sending it again cannot help."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_FIELD"


class NotFound(DomainError):
    """The resource does not exist, or the caller may not know that it does."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"


class AlreadyExists(DomainError):
    """A resource with this identity exists and is not the one that was asked for."""

    status = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class PermissionDenied(DomainError):
    """The caller is known and may not do this."""

    status = "PERMISSION_DENIED"
    reason = "NOT_ALLOWED"


class Unauthenticated(DomainError):
    """The caller is not known: no token, a wrong one or an expired one."""

    status = "UNAUTHENTICATED"
    reason = "TOKEN_INVALID"


class FailedPrecondition(DomainError):
    """The resource is not in a state that allows this; another step has to come first."""

    status = "FAILED_PRECONDITION"
    reason = "WRONG_STATE"


class Aborted(DomainError):
    """Somebody else was faster; read again and retry the whole change."""

    status = "ABORTED"
    reason = "CONFLICT"


class ResourceExhausted(DomainError):
    """A quota, a budget or a limit of size or concurrency is used up."""

    status = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"


class Unavailable(DomainError):
    """A part that is needed cannot be reached now; the same call may succeed shortly."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class DeadlineExceeded(DomainError):
    """The caller's deadline passed before the answer was there."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Cancelled(DomainError):
    """The work was cancelled by its caller or by a verb that cancels it."""

    status = "CANCELLED"
    reason = "CANCELLED"


class DataLoss(DomainError):
    """Stored data is gone or damaged; somebody has to look."""

    status = "DATA_LOSS"
    reason = "INTERNAL"


class Internal(DomainError):
    """A peer failed in a way that its contract does not name. Not for raising by hand."""

    status = "INTERNAL"
    reason = "INTERNAL"
