"""The service's errors: what callers are told, and under which reason."""

from __future__ import annotations

from collections.abc import Mapping

from gathering_mesh.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)


class ToolError(Exception):
    """A tool says that it failed, in words for the model; a result, never a status.

    `reason` is a value of gathering.errors.v1.ErrorReason without its prefix.
    """

    def __init__(self, message: str, reason: str = "TOOL_FAILED") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class OutsideWorkspace(ToolError):
    """A path leads out of its workspace."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} leads outside the workspace; paths are relative to it",
            "PATH_OUTSIDE_WORKSPACE",
        )


class LinkRefused(ToolError):
    """A path is or goes through a symbolic link where none is followed."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path!r} is or goes through a symbolic link, which is not followed here")


class NoSuchFile(ToolError):
    """There is nothing at a path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no {path!r} in the workspace", "NOT_FOUND")


class SkillsNotFound(NotFound):
    """There is no such execution, grant or workspace for this caller."""

    def __init__(self, what: str, resource_id: str) -> None:
        super().__init__(f"no {what} {resource_id}", metadata={"resource": resource_id})


class FileNotReadable(NotFound):
    """There is no such file in the workspace, or it cannot be read."""


class PathRefused(FailedPrecondition):
    """A path leads outside its workspace."""

    reason = "PATH_OUTSIDE_WORKSPACE"


class WorkspaceRootRefused(InvalidArgument):
    """The directory may not become a workspace."""

    reason = "WORKSPACE_ROOT_REFUSED"

    def __init__(self, problem: str) -> None:
        super().__init__(f"path: {problem}", fields={"path": problem})


class ToolNotFound(NotFound):
    """No skill has this tool."""

    reason = "TOOL_NOT_FOUND"

    def __init__(self, tool: str) -> None:
        super().__init__(f"there is no tool {tool!r}", metadata={"resource": tool})


class ToolNotGranted(PermissionDenied):
    """The agent or user may not use the tool in this way."""

    reason = "TOOL_NOT_GRANTED"


class ArgumentsInvalid(InvalidArgument):
    """The arguments do not fit the tool's schema; the fields are `arguments.<path>`."""

    reason = "TOOL_ARGUMENTS_INVALID"

    def __init__(self, tool: str, fields: Mapping[str, str]) -> None:
        told = "; ".join(f"{path}: {problem}" for path, problem in fields.items())
        super().__init__(f"{tool}: {told}", fields=fields)


class FieldInvalid(InvalidArgument):
    """A field of the request does not fit."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", fields={field: problem})


class RequestIdReused(InvalidArgument):
    """The request id names an execution with other arguments."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self) -> None:
        problem = "names an execution of another tool or with other arguments"
        super().__init__(f"request_id: {problem}", fields={"request_id": problem})


class TooManyExecutions(ResourceExhausted):
    """The tenant has too many executions that have not ended."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} executions have not ended yet", retry_after=1.0)


class AgentNotYours(PermissionDenied):
    """Only services and administrators name an agent whose grants count."""


class ApprovalNotYours(PermissionDenied):
    """The caller asked for it, or is a service."""

    reason = "NOT_ALLOWED"


class ApprovalClosed(FailedPrecondition):
    """The execution awaits no approval any more, or never did."""

    reason = "APPROVAL_CLOSED"

    def __init__(self, state: str) -> None:
        super().__init__(f"it awaits no approval: it is {state}", metadata={"state": state})


class ApprovalStale(FailedPrecondition):
    """The decision is about something else than what would run."""

    reason = "APPROVAL_STALE"

    def __init__(self, digest: str) -> None:
        problem = f"is not that of what would run, {digest}"
        super().__init__(f"digest {problem}", fields={"digest": problem})
