"""Look at Python code without running it: lint, complexity, size, imports."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.tooling.context import Workspace
from gathering_skills.tooling.tool import Skill, tool
from gathering_skills.tools.analysis_results import (
    Complexity,
    Imports,
    Lint,
    Sizes,
    Summary,
)

Path = Annotated[str, Field(min_length=1, max_length=4000)]
Rule = Annotated[str, Field(pattern="^(ALL|[A-Z]{1,6}[0-9]{0,4})$")]
Rules = Annotated[list[Rule], Field(min_length=1, max_length=100)]
Offset = Annotated[int, Field(ge=0)]

# Errors, likely bugs, security, asynchrony, performance, simplification, outdated forms.
RULES = ["E4", "E7", "E9", "F", "B", "S", "ASYNC", "PLE", "PLW", "PERF", "RUF", "SIM", "UP"]
IGNORED = ["S101"]  # an assertion: what tests are made of
_TIMEOUT = 120.0
_SECONDS = 110.0  # of the process; the tool has a little more


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=_TIMEOUT)
async def analysis_summary(work: Workspace, path: Path = ".") -> Summary:
    """Give an overview of a directory: how many files of which types, lines of Python, packages.

    Also works where there is no Python: then it says what there is instead.

    Args:
        path: The directory, relative to the workspace; `.` is the workspace.
    """
    found = await work.inspect("summary", {"path": path}, _SECONDS)
    return Summary.model_validate(found)


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=_TIMEOUT, tells=True)
async def analysis_lint(
    work: Workspace,
    *,
    path: Path = ".",
    rules: Rules = RULES,
    ignore: Annotated[list[Rule], Field(max_length=100)] = IGNORED,
    limit: Annotated[int, Field(ge=1, le=200)] = 50,
    offset: Offset = 0,
) -> Lint:
    """Lint Python code with ruff: find errors, likely bugs, security problems and bad style.

    Gives file, line, rule and message for each finding, most serious first and rare rules before
    frequent ones; how many findings each rule has in all, and why the rule is there. Configuration
    in the workspace is not read; `noqa` comments count. `command` finds the same by hand.

    Args:
        path: The directory or file, relative to the workspace; `.` is the workspace.
        rules: Codes or families of ruff's rules, such as `F`, `B006` or `ALL`.
        ignore: Codes or families to leave out.
        limit: The most findings to give.
        offset: How many findings to pass over, for the rest of a long list.
    """
    arguments = {"path": path, "rules": rules, "ignore": ignore, "limit": limit, "offset": offset}
    return Lint.model_validate(await work.inspect("lint", arguments, _SECONDS))


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=_TIMEOUT, tells=True)
async def analysis_complexity(
    work: Workspace,
    *,
    path: Path = ".",
    threshold: Annotated[int, Field(ge=0, le=1000)] = 10,
    limit: Annotated[int, Field(ge=1, le=500)] = 50,
    offset: Offset = 0,
) -> Complexity:
    """Measure the cyclomatic complexity of Python functions; list those above a threshold.

    Gives file, line, name and number of each, most complex first; mean and highest of all.
    The numbers are those of ruff's rule C901.

    Args:
        path: The directory or file, relative to the workspace; `.` is the workspace.
        threshold: List functions whose complexity is above this.
        limit: The most functions to give.
        offset: How many functions to pass over, for the rest of a long list.
    """
    arguments = {"path": path, "threshold": threshold, "limit": limit, "offset": offset}
    return Complexity.model_validate(await work.inspect("complexity", arguments, _SECONDS))


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=_TIMEOUT)
async def analysis_size(
    work: Workspace,
    path: Path = ".",
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
) -> Sizes:
    """Measure the size of Python code: lines, functions, classes; longest files and functions.

    Args:
        path: The directory or file, relative to the workspace; `.` is the workspace.
        limit: How many of the longest files and functions to give.
    """
    found = await work.inspect("sizes", {"path": path, "limit": limit}, _SECONDS)
    return Sizes.model_validate(found)


@tool(permission=Permission.READ, effect=EffectClass.PURE, timeout=_TIMEOUT, tells=True)
async def analysis_imports(
    work: Workspace,
    path: Path = ".",
    limit: Annotated[int, Field(ge=0, le=500)] = 100,
) -> Imports:
    """Draw the import graph of Python code: dependencies between its modules, and circles.

    Tells third-party packages, the standard library and own modules apart. A circle counts where
    modules import each other when they are loaded, not in functions or for types only.

    Args:
        path: The directory, relative to the workspace; `.` is the workspace.
        limit: The most edges (who imports whom) to give.
    """
    found = await work.inspect("imports", {"path": path, "limit": limit}, _SECONDS)
    return Imports.model_validate(found)


SKILL = Skill(
    "analysis",
    "Analyse Python code without running it: lint, complexity, size, imports.",
    (analysis_summary, analysis_lint, analysis_complexity, analysis_size, analysis_imports),
)
