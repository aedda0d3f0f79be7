"""What can go wrong here, in this service's words."""

from __future__ import annotations

from gathering_mesh.errors import (
    Aborted,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)


class CircleNotFound(NotFound):
    """No such circle in the caller's tenant."""

    def __init__(self, circle_id: str) -> None:
        super().__init__(f"no circle {circle_id}", metadata={"resource": circle_id})


class TaskNotFound(NotFound):
    """No such task in the caller's tenant."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no task {task_id}", metadata={"resource": task_id})


class ParentNotYours(PermissionDenied):
    """Tasks below a task use its budget."""

    reason = "NOT_ALLOWED"


class OfferNotFound(NotFound):
    """The task has no such offer."""

    def __init__(self, offer_id: str) -> None:
        super().__init__(f"no offer {offer_id}", metadata={"resource": offer_id})


class ReviewNotFound(NotFound):
    """The task has no such review."""

    def __init__(self, review_id: str) -> None:
        super().__init__(f"no review {review_id}", metadata={"resource": review_id})


class OfferClosed(FailedPrecondition):
    """The offer was answered, expired or was taken back."""

    reason = "OFFER_CLOSED"

    def __init__(self, offer_id: str, state: str) -> None:
        super().__init__(f"the offer {offer_id} is {state}", metadata={"state": state})


class WrongState(FailedPrecondition):
    """What was asked does not fit the state of the task, offer or review."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message, metadata={"state": state})


class IllegalTransition(FailedPrecondition):
    """A task cannot go from the one state to the other."""

    def __init__(self, before: str, after: str) -> None:
        super().__init__(
            f"a task that is {before} cannot become {after}", metadata={"state": before}
        )


class TaskChanged(Aborted):
    """The task changed between reading and writing."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"the task {task_id} changed meanwhile", retry_after=0.0)


class ReviewOfOwnWork(PermissionDenied):
    """The author of work cannot review it."""

    reason = "REVIEW_OF_OWN_WORK"


class EtagStale(Aborted):
    """The circle changed since it was read."""

    reason = "ETAG_STALE"


class InvalidUpdateMask(InvalidArgument):
    """The mask names a field that cannot be updated."""

    reason = "INVALID_UPDATE_MASK"


class PermitRevoked(PermissionDenied):
    """The owner took back the permission to act on, so the work has to stop."""

    reason = "CREDENTIALS_REVOKED"


# What may go away by itself. INTERNAL and UNAUTHENTICATED of a peer do, when it is mended or its
# keys are read again; a revoked permission is `PermitRevoked`.
_PASSING = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED", "INTERNAL",
     "UNAUTHENTICATED"}
)  # fmt: skip


def passes(error: DomainError) -> bool:
    """Tell whether a failed call of a peer is worth repeating."""
    if error.reason == "BUDGET_EXHAUSTED":
        return False
    return error.status in _PASSING or error.reason == "SESSION_BUSY"
