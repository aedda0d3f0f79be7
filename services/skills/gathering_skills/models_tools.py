"""What a tool is to those who call and grant it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Permission(StrEnum):
    """What a tool needs and a grant gives."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"
    DELETE = "delete"
    NETWORK = "network"
    GIT = "git"
    DEPLOY = "deploy"
    ADMIN = "admin"


class EffectClass(StrEnum):
    """What running a tool twice does, and so what is done when a run was interrupted."""

    PURE = "pure"
    CONVERGENT = "convergent"
    KEYED = "keyed"
    ONCE = "once"

    @property
    def repeatable(self) -> bool:
        """Tell whether an interrupted run may be run again."""
        return self is not EffectClass.ONCE


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What is told about a tool; `timeout` in seconds.

    `written_paths` names the arguments that hold the paths which it changes; `tells`: it tells what
    it finds while it runs.
    """

    name: str
    description: str
    arguments_schema: Mapping[str, Any]
    result_schema: Mapping[str, Any]
    permission: Permission
    effect: EffectClass
    needs_workspace: bool
    timeout: float
    written_paths: tuple[str, ...] = ()
    tells: bool = False


@dataclass(frozen=True, slots=True)
class SkillSpec:
    """A family of tools, by name."""

    name: str
    description: str
    tools: tuple[ToolSpec, ...]
