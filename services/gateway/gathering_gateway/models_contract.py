"""What the edge and the OpenAPI document need to know of an RPC."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VARIABLE = re.compile(r"\{([a-z0-9_.]+)\}")


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """One path of an RPC; `body` is `*`, the name of a field or empty."""

    verb: str  # GET, POST, ...
    path: str  # /v1/agents/{agent_id}:archive
    body: str

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the fields that stand in the path."""
        return tuple(_VARIABLE.findall(self.path))

    @property
    def pattern(self) -> str:
        """Return the regular expression (RE2) of the whole path; a variable is one segment."""
        parts = _VARIABLE.split(self.path)
        return "".join(
            "[^/:]+" if index % 2 else re.escape(part) for index, part in enumerate(parts)
        )


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of the contract."""

    full_name: str  # gathering.agent.v1.AgentService.CreateAgent
    routes: tuple[HttpRoute, ...]  # none: not for clients
    public: bool
    streamed: bool

    @property
    def service(self) -> str:
        """Return the full name of its service."""
        return self.full_name.rpartition(".")[0]

    @property
    def part(self) -> str:
        """Return the part of the mesh that serves it, such as `agent`."""
        return self.full_name.split(".")[1]

    @property
    def grpc_path(self) -> str:
        """Return its path in gRPC."""
        service, _, name = self.full_name.rpartition(".")
        return f"/{service}/{name}"
