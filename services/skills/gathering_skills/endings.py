"""The ways in which an execution ends."""

from __future__ import annotations

from gathering_skills.models import Artifact, Ending, ExecutionState, JsonObject

_MESSAGE_CHARS = 2000
_NOT_KNOWN = "whether it had its effect is not known"


def done(output: JsonObject, artifacts: tuple[Artifact, ...]) -> Ending:
    """Return the end of a tool that did what it was asked for."""
    return Ending(ExecutionState.DONE, output=output, artifacts=artifacts)


def failed(reason: str, message: str) -> Ending:
    """Return the end of a tool that failed."""
    return _without_output(ExecutionState.FAILED, reason, message)


def cancelled(message: str) -> Ending:
    """Return the end of a tool that somebody stopped."""
    return _without_output(ExecutionState.CANCELLED, "CANCELLED", message)


def denied(comment: str) -> Ending:
    """Return the end of a call that a person refused."""
    said = f"a person denied it: {comment}" if comment.strip() else "a person denied it"
    return _without_output(ExecutionState.DENIED, "APPROVAL_DENIED", said)


def expired() -> Ending:
    """Return the end of a call that nobody approved in time."""
    message = "no person approved it in time"
    return _without_output(ExecutionState.EXPIRED, "APPROVAL_EXPIRED", message)


def unknown(message: str) -> Ending:
    """Return the end of a tool whose effect happens once, and may have happened."""
    text = f"{message}; {_NOT_KNOWN}"
    return _without_output(ExecutionState.UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME", text)


def interrupted() -> Ending:
    """Return the end of a run that was cut and must not be repeated."""
    return unknown("the run of the tool was interrupted")


def _without_output(state: ExecutionState, reason: str, message: str) -> Ending:
    text = message.replace("\0", "")[:_MESSAGE_CHARS]
    return Ending(state, error_reason=reason, error_message=text)
