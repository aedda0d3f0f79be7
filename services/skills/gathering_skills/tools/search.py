"""Find text and files in the workspace."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.tooling.context import Workspace
from gathering_skills.tooling.tool import Result, Skill, tool

Path = Annotated[str, Field(min_length=1, max_length=4000)]
Globs = Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=50)]
Offset = Annotated[int, Field(ge=0)]
_SECONDS = 25.0  # of the process; the tool has a little more


class LineFound(Result):
    """A line that fits."""

    path: str
    line: int = Field(description="1 is the first.")
    column: int = Field(description="Where the first match begins, in characters; 1 is the first.")
    text: str = Field(description="The line; of a long one what stands around the match.")
    before: list[str] = Field(default=[], description="The lines before it.")
    after: list[str] = Field(default=[], description="The lines after it.")


class LinesFound(Result):
    """A part of the lines that fit, by path and line."""

    matches: list[LineFound]
    match_count: int = Field(description="Lines that fit, in all files.")
    matching_file_count: int
    searched_file_count: int
    skipped_file_count: int = Field(description="Binary, too large or not readable.")
    next_offset: int = Field(description="`offset` for the rest; 0: that was all.")
    message: str


@tool(permission=Permission.READ, effect=EffectClass.PURE, tells=True)
async def search_text(
    work: Workspace,
    *,
    pattern: Annotated[str, Field(min_length=1, max_length=1000)],
    path: Path = ".",
    literal: bool = False,
    ignore_case: bool = False,
    include: Globs = [],  # noqa: B006 - pydantic copies defaults
    exclude: Globs = [],  # noqa: B006
    context_lines: Annotated[int, Field(ge=0, le=10)] = 0,
    limit: Annotated[int, Field(ge=1, le=1000)] = 100,
    offset: Offset = 0,
) -> LinesFound:
    """Search the content of files for a text or a regular expression, line by line, as grep does.

    Gives file, line number and the line for each match. Leaves out .git, virtual environments,
    caches, build output, what .gitignore names, binary files and files above 16 MiB.

    Args:
        pattern: A regular expression of Python's `re`, or with literal=true a plain text.
        path: The directory or file to search, relative to the workspace; `.` is the workspace.
        literal: Take the pattern as plain text.
        ignore_case: Let upper and lower case be the same.
        include: Only files that fit one of these globs, such as `*.py` or `src/**/*.md`.
        exclude: No files that fit one of these globs.
        context_lines: How many lines before and after each match to give.
        limit: The most matching lines to give.
        offset: How many matching lines to pass over, for the rest of a long list.
    """
    arguments = {
        "pattern": pattern,
        "path": path,
        "literal": literal,
        "ignore_case": ignore_case,
        "include": include,
        "exclude": exclude,
        "context_lines": context_lines,
        "limit": limit,
        "offset": offset,
    }
    return LinesFound.model_validate(await work.inspect("text", arguments, _SECONDS))


class FileFound(Result):
    """A file whose path fits."""

    path: str
    size_bytes: int


class FilesFound(Result):
    """A part of the files that fit, by path."""

    files: list[FileFound]
    file_count: int = Field(description="Files that fit.")
    next_offset: int = Field(description="`offset` for the rest; 0: that was all.")
    message: str


@tool(permission=Permission.READ, effect=EffectClass.PURE, tells=True)
async def search_files(
    work: Workspace,
    pattern: Annotated[str, Field(min_length=1, max_length=500)],
    path: Path = ".",
    limit: Annotated[int, Field(ge=1, le=2000)] = 500,
    offset: Offset = 0,
) -> FilesFound:
    """Find files by name or path with a glob pattern, in the whole tree.

    Leaves out what search_text leaves out, but not binary or large files.

    Args:
        pattern: A glob: `*` and `?` within a name, `**` across folders, `{a,b}` for either.
            Without a slash it fits names in every folder, such as `*.py` or `test_*`.
        path: The directory to look in, relative to the workspace; `.` is the workspace.
        limit: The most files to give.
        offset: How many files to pass over, for the rest of a long list.
    """
    arguments = {"pattern": pattern, "path": path, "limit": limit, "offset": offset}
    return FilesFound.model_validate(await work.inspect("file_names", arguments, _SECONDS))


SKILL = Skill(
    "search",
    "Find text in the files of the workspace, and files by name.",
    (search_text, search_files),
)
