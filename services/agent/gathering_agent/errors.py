"""What can go wrong here, with the reasons of the contract."""

from __future__ import annotations

from gathering_mesh.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)


class AgentNotFound(NotFound):
    """No such agent in the caller's tenant."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"no agent {agent_id}", metadata={"resource": agent_id})


class AgentVersionNotFound(NotFound):
    """No such version of this agent."""

    def __init__(self, agent_id: str, version: int) -> None:
        super().__init__(
            f"agent {agent_id} has no version {version}", metadata={"resource": str(version)}
        )


class TemplateNotFound(NotFound):
    """No such template in the catalogue."""

    def __init__(self, template: str) -> None:
        super().__init__(f"there is no template {template!r}", metadata={"resource": template})


class SessionNotFound(NotFound):
    """No such session for this caller."""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"no session {session_id}", metadata={"resource": session_id})


class TurnNotFound(NotFound):
    """No such turn for this caller."""

    def __init__(self, turn_id: str) -> None:
        super().__init__(f"no turn {turn_id}", metadata={"resource": turn_id})


class AgentArchived(FailedPrecondition):
    """The agent takes no turns until it is restored."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"agent {agent_id} is archived", metadata={"state": "archived"})


class SessionBusy(FailedPrecondition):
    """Another turn of the session has not ended."""

    reason = "SESSION_BUSY"

    def __init__(self, turn_id: str) -> None:
        super().__init__(f"turn {turn_id} of this session has not ended",
                         metadata={"resource": turn_id})  # fmt: skip


class NotTheOwner(PermissionDenied):
    """Administrators see sessions; only the owner speaks in them."""

    reason = "NOT_ALLOWED"


class TaskNotYours(PermissionDenied):
    """A turn for a task is started by the service that owns tasks."""

    reason = "NOT_ALLOWED"


class StaleEtag(Aborted):
    """The agent was changed since it was read."""

    reason = "ETAG_STALE"


class BadUpdateMask(InvalidArgument):
    """The mask names what cannot be updated."""

    reason = "INVALID_UPDATE_MASK"


class BadCursor(InvalidArgument):
    """The cursor cannot be read, or is of another turn."""

    reason = "INVALID_CURSOR"


class BadResultSchema(InvalidArgument):
    """The schema of the result cannot be used."""


class ModelNotConfigured(FailedPrecondition):
    """The model is not in the catalogue, or its provider refuses the credentials."""

    reason = "MODEL_NOT_CONFIGURED"
    refused = False  # before the model began, by the provider


class ModelRefused(FailedPrecondition):
    """The provider refuses the request; the same request would be refused again."""

    reason = "MODEL_REFUSED"
    refused = False  # before the model began, by the provider


class ModelFailed(Unavailable):
    """The provider failed; another attempt may help. `retry_after` is what it asked for."""

    reason = "MODEL_FAILED"
    refused = False  # before the model began, by the provider


class TurnOver(Exception):
    """The turn was ended by somebody else while a worker ran it; the worker just stops."""


class AwaitsApproval(Exception):
    """A person has to approve a tool call of the turn; nothing is to be done until then."""
