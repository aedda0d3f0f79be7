"""What the skills service is told by its environment."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from gathering_mesh.settings import ServiceSettings


class SkillsSettings(ServiceSettings):
    """`workspace_roots` as JSON: GATHERING_WORKSPACE_ROOTS='["/srv/work/{tenant}"]'."""

    service: str = "skills"
    workspace_roots: tuple[str, ...] = Field(
        default=(),
        description="directories below which workspaces may be; {tenant} stands for its id",
    )
    closed_directories: tuple[str, ...] = Field(
        default=(),
        description="directories that no workspace lies in or around, beside those of the kernel",
    )
    share_directories: bool = Field(
        default=False, description="let several tenants work in one directory"
    )
    ruff: Path = Field(
        default=Path(sys.executable).with_name("ruff"), description="the program of analysis_lint"
    )
    scratch_folder: Path | None = Field(
        default=None, description="for copies that are analysed; default: the system's"
    )
    inspections: PositiveInt = Field(default=4, description="processes that look at files, at once")
    concurrent_executions: PositiveInt = Field(default=32, description="in this replica")
    live_executions: PositiveInt = Field(
        default=500, description="of a tenant that wait or run; more are refused"
    )
    lease_seconds: PositiveFloat = Field(
        default=10.0, description="until the executions of a replica that died are taken over"
    )
    execution_days: PositiveInt = Field(
        default=90, description="that executions are kept after their end"
    )
