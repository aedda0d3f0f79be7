"""The service's errors: what callers are told, and under which reason."""

from __future__ import annotations

from gathering_mesh.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied


class MemoryNotFound(NotFound):
    """There is no such memory for this caller."""

    def __init__(self, memory_id: str) -> None:
        super().__init__(f"no memory {memory_id}", metadata={"resource": memory_id})


class ScopeNotFound(NotFound):
    """Nobody told memory who belongs to this scope."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the members of {name} are not known", metadata={"resource": name})


class NotMember(PermissionDenied):
    """The agent or user does not belong to the scope."""


class NotOwner(PermissionDenied):
    """The memory belongs to somebody else."""


class NotActive(FailedPrecondition):
    """The memory was superseded or forgotten."""

    def __init__(self, memory_id: str, state: str) -> None:
        super().__init__(f"the memory {memory_id} is {state}", metadata={"state": state.upper()})


class ScopeInvalid(InvalidArgument):
    """The kind of scope and its id do not fit."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", fields={field: problem})


class SupersedesElsewhere(InvalidArgument):
    """The older memory stands in another scope, where nobody would find the newer one."""

    def __init__(self) -> None:
        problem = "must stand in the scope of the memory that replaces it"
        super().__init__(
            f"supersedes_memory_id: {problem}", fields={"supersedes_memory_id": problem}
        )


class NoText(InvalidArgument):
    """The text is nothing but white space."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is empty", fields={field: "must hold more than white space"})
