"""What can go wrong here, with the reasons of the contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gathering_mesh.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
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


class MessageNotFound(NotFound):
    """No such message in this session."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"no message {message_id}", metadata={"resource": message_id})


class ArchiveTooLarge(ResourceExhausted):
    """The session, or the document, is larger than documents are."""

    reason = "MESSAGE_TOO_LARGE"


class TurnNotFound(NotFound):
    """No such turn for this caller."""

    def __init__(self, turn_id: str) -> None:
        super().__init__(f"no turn {turn_id}", metadata={"resource": turn_id})


class NoContext(NotFound):
    """No report is kept of this step, or there is no such step."""

    def __init__(self, turn_id: str) -> None:
        message = f"no report of what went into that step of turn {turn_id}"
        super().__init__(message, metadata={"resource": turn_id})


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


class SessionQueueFull(ResourceExhausted):
    """As many turns of the session wait as may."""

    reason = "SESSION_QUEUE_FULL"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} turns of this session wait already, which is the most",
            metadata={"limit": str(limit)},
        )


class NotTheOwner(PermissionDenied):
    """Administrators see sessions; only the owner speaks in them."""

    reason = "NOT_ALLOWED"


class TaskNotYours(PermissionDenied):
    """A turn for a task is started by the service that owns tasks."""

    reason = "NOT_ALLOWED"


class StaleEtag(Aborted):
    """The agent or session was changed since it was read."""

    reason = "ETAG_STALE"


class BadUpdateMask(InvalidArgument):
    """The mask names what cannot be updated."""

    reason = "INVALID_UPDATE_MASK"


class BadCursor(InvalidArgument):
    """The cursor cannot be read, or is of another turn."""

    reason = "INVALID_CURSOR"


class BadResultSchema(InvalidArgument):
    """The schema of the result cannot be used."""


class BadImage(InvalidArgument):
    """A picture cannot be taken, or the agent's model takes none."""


class ImageNotFound(NotFound):
    """The message has no such picture."""

    def __init__(self, message_id: str, place: int) -> None:
        super().__init__(
            f"message {message_id} has no image {place}", metadata={"resource": message_id}
        )


class ModelNotConfigured(FailedPrecondition):
    """The model is not in the catalogue, or its provider refuses the credentials."""

    reason = "MODEL_NOT_CONFIGURED"
    refused = False  # before the model began, by the provider


class ModelRefused(FailedPrecondition):
    """The provider refuses the request; the same request would be refused again."""

    reason = "MODEL_REFUSED"
    refused = False  # before the model began, by the provider


class ModelContextExceeded(ModelRefused):
    """The dialogue does not fit into the model's window; a shorter one may."""

    reason = "MODEL_CONTEXT_EXCEEDED"

    def __init__(self, said: str) -> None:
        super().__init__(f"the conversation does not fit into the model's context window: {said}")


class NotRecorded(ModelRefused):
    """The exchange is not among those that are replayed."""

    refused = True


class ModelFailed(Unavailable):
    """The provider failed; another attempt may help. `retry_after` is what it asked for."""

    reason = "MODEL_FAILED"
    refused = False  # before the model began, by the provider
    unsent = False  # there was no connection: the provider knows nothing of it
    hasty = False  # it had less time than providers are given: this says nothing of it


class ModelUnavailable(Unavailable):
    """Calls of the model are held back: its provider keeps failing, or has no room for more."""

    reason = "MODEL_UNAVAILABLE"


class ProviderKeyNotFound(NotFound):
    """No such key in the caller's tenant."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no key {key_id}", metadata={"resource": key_id})


class NoSuchProvider(InvalidArgument):
    """The provider is not in the catalogue, or takes no key."""

    def __init__(self, provider: str, known: Sequence[str]) -> None:
        can = ", ".join(known) or "none"
        super().__init__(
            f"there is no provider {provider!r} that takes a key; there are: {can}",
            fields={"provider": f"must be one of: {can}"},
        )


class NoMasterKey(FailedPrecondition):
    """The operator has set no key to encrypt keys with."""

    def __init__(self) -> None:
        super().__init__(
            "keys cannot be kept: the operator has set no master key",
            metadata={"state": "no_master_key"},
        )


class ModelPriceUnknown(FailedPrecondition):
    """A budget caps money, and nobody can say what a call of the model may cost."""

    reason = "MODEL_PRICE_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which cap of which budget refused a call: in tokens, micro-USD, calls or seconds."""

    budget_id: str
    level: str
    subject_id: str
    cap: str
    limit: int
    left: int
    wanted: int

    def __str__(self) -> str:
        """Say it in words."""
        whose = f"{self.level} {self.subject_id}".strip()
        units = {"cost": "micro-USD", "wall_time": "s", "model_calls": "calls"}
        unit = units.get(self.cap, self.cap)
        return (
            f"the budget of {whose} leaves no room: {self.cap} is capped at {self.limit} {unit}, "
            f"{self.left} are left, the call may need {self.wanted}"
        )


class BudgetExhausted(ResourceExhausted):
    """A cap leaves no room for a model call."""

    reason = "BUDGET_EXHAUSTED"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(
            str(refusal),
            metadata={
                "level": refusal.level,
                "subject": refusal.subject_id,
                "cap": refusal.cap,
                "limit": str(refusal.limit),
                "left": str(refusal.left),
                "wanted": str(refusal.wanted),
            },
        )
        self.refusal = refusal


class BudgetHeld(Exception):
    """Calls in flight hold what a call needs of a budget, which may come back: it is tried again.

    No error of the contract: whoever waits too long raises BudgetExhausted.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class BudgetNotFound(NotFound):
    """No such budget for this caller."""

    def __init__(self, budget_id: str) -> None:
        super().__init__(f"no budget {budget_id}", metadata={"resource": budget_id})


class BudgetNotYours(PermissionDenied):
    """Who may set a budget is said in the contract."""

    reason = "NOT_ALLOWED"


class BudgetInUse(FailedPrecondition):
    """Tasks below draw on the budget."""

    reason = "IN_USE"


class BadSubject(InvalidArgument):
    """The budget's level and its subject, or its parent, do not fit."""


class BadPeriod(InvalidArgument):
    """The end is not after the start."""


class Overdue(DeadlineExceeded):
    """The turn's time is over; trying again does not help."""


class TurnOver(Exception):
    """The turn was ended by somebody else while a worker ran it; the worker just stops."""


class AwaitsApproval(Exception):
    """A person has to approve a tool call of the turn; nothing is to be done until then."""

    def __init__(self, execution_id: str) -> None:
        super().__init__(execution_id)
        self.execution_id = execution_id
