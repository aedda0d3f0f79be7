"""Files of the workspace: read, list, write, move, delete."""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field

from gathering_skills.confined.changes import Draft, delete, make_directory, move
from gathering_skills.confined.paths import normal
from gathering_skills.errors import NoSuchFile
from gathering_skills.models import Artifact
from gathering_skills.models_tools import EffectClass, Permission
from gathering_skills.tooling.context import Workspace
from gathering_skills.tooling.tool import Skill, tool
from gathering_skills.tools.filesystem_results import (
    Deleted,
    FileContent,
    FolderContent,
    Made,
    Moved,
    PathInfo,
    Tree,
    Written,
)
from gathering_skills.tools.listing import facts_of, list_folder
from gathering_skills.tools.reading import read_part

MOST_WRITTEN = 1_000_000  # characters of a file that is written
_TREE_SECONDS = 25.0  # of a process of its own: the patterns of a .gitignore can take for ever

Path = Annotated[str, Field(min_length=1, max_length=4000)]
Offset = Annotated[int, Field(ge=0)]


@tool(permission=Permission.READ, effect=EffectClass.PURE)
async def fs_read(
    work: Workspace,
    path: Path,
    start_line: Annotated[int, Field(ge=1)] = 1,
    start_column: Annotated[int, Field(ge=1)] = 1,
    line_count: Annotated[int, Field(ge=1, le=5000)] = 1000,
) -> FileContent:
    """Read the content of a text file, whole or a range of its lines.

    Gives content, line_count, size_bytes, sha256. A long file comes in parts: next_line and
    next_column tell where the rest begins. Binary files are refused.

    Args:
        path: The file, relative to the workspace.
        start_line: The first line to read; 1 is the first of the file.
        start_column: Where in the first line to begin, in characters; 1 is its beginning.
        line_count: The most lines to read.
    """
    part = await work.in_thread(
        read_part, work.root, path, (start_line, start_column), line_count, work.checkpoint
    )
    more = (
        f"Lines {start_line} to {part.end_line} of {part.line_count}; "
        f"start_line={part.next_line}, start_column={part.next_column} gives the rest."
        if part.next_line
        else ""
    )
    beyond = (
        f"The file has only {part.line_count} lines." if start_line > part.line_count > 0 else ""
    )
    return FileContent(
        path=normal(path),
        content=part.content,
        start_line=start_line,
        end_line=part.end_line,
        line_count=part.line_count,
        size_bytes=part.size_bytes,
        sha256=part.sha256,
        next_line=part.next_line,
        next_column=part.next_column,
        message=more or beyond,
    )


@tool(permission=Permission.READ, effect=EffectClass.PURE)
async def fs_list(
    work: Workspace,
    path: Path = ".",
    limit: Annotated[int, Field(ge=1, le=2000)] = 500,
    offset: Offset = 0,
) -> FolderContent:
    """List the files and folders of one directory, with kind, size and time of change.

    Gives entries by name, hidden and ignored ones included. fs_tree shows what is below.

    Args:
        path: The directory, relative to the workspace; `.` is the workspace.
        limit: The most entries.
        offset: How many entries to pass over, for the rest of a long list.
    """
    listed = await work.in_thread(list_folder, work.root, path, offset, limit)
    return FolderContent(
        path=normal(path),
        entries=listed.entries,
        entry_count=listed.entry_count,
        next_offset=listed.next_offset,
        message=listed.message,
    )


@tool(permission=Permission.READ, effect=EffectClass.PURE, tells=True)
async def fs_tree(
    work: Workspace,
    path: Path = ".",
    depth: Annotated[int, Field(ge=1, le=20)] = 3,
    limit: Annotated[int, Field(ge=1, le=2000)] = 400,
) -> Tree:
    """Show the structure of a directory: the tree of folders and files below it.

    Leaves out .git, virtual environments, caches, build output and what .gitignore names.

    Args:
        path: The directory, relative to the workspace; `.` is the workspace.
        depth: How many levels to show.
        limit: The most lines.
    """
    arguments = {"path": path, "depth": depth, "limit": limit}
    found = await work.inspect("tree", arguments, _TREE_SECONDS)
    return Tree.model_validate({"path": normal(path), **found})


@tool(permission=Permission.READ, effect=EffectClass.PURE)
async def fs_info(work: Workspace, path: Path) -> PathInfo:
    """Tell whether a file or directory exists, its kind, size, time of change, lines and sha256.

    Args:
        path: The path, relative to the workspace.
    """
    facts = await work.in_thread(facts_of, work.root, path, work.checkpoint)
    return PathInfo(
        path=normal(path),
        exists=facts.entry is not None,
        kind=facts.entry.kind if facts.entry else "",
        size_bytes=facts.entry.size_bytes if facts.entry else 0,
        modified=facts.modified,
        line_count=facts.line_count,
        sha256=facts.sha256,
    )


@tool(permission=Permission.WRITE, effect=EffectClass.CONVERGENT, writes=["path"])
async def fs_write(
    work: Workspace,
    path: Path,
    content: Annotated[str, Field(max_length=MOST_WRITTEN)],
    expected_sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = "",
) -> Written:
    """Write a text file: create it with its folders, or replace its whole content in one step.

    Whoever reads meanwhile sees the old content or the new one. Links are not followed.

    Args:
        path: The file, relative to the workspace.
        content: The whole new content.
        expected_sha256: Write only if the file still has this hash, as fs_read gave it; empty:
            in any case.
    """
    data = content.encode()
    new = Draft(work.root, path, work.execution_id, work.attempt)
    try:
        await work.in_thread(new.write, data, expected_sha256, work.checkpoint)
        await work.hold()
        await work.in_thread(new.publish)
    finally:
        new.close()
    written = Artifact(normal(path), hashlib.sha256(data).hexdigest(), len(data))
    work.artifacts.append(written)
    return Written(
        path=written.path,
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        line_count=content.count("\n") + bool(content and not content.endswith("\n")),
    )


@tool(permission=Permission.WRITE, effect=EffectClass.CONVERGENT, writes=["path"])
async def fs_mkdir(work: Workspace, path: Path) -> Made:
    """Create a directory, and those above it that are missing. One that exists is fine.

    Args:
        path: The directory, relative to the workspace.
    """
    await work.hold()
    created = await work.in_thread(make_directory, work.root, path)
    return Made(path=normal(path), created=created)


@tool(
    permission=Permission.WRITE,
    effect=EffectClass.CONVERGENT,
    writes=["source", "destination"],
)
async def fs_move(
    work: Workspace, source: Path, destination: Path, overwrite: bool = False
) -> Moved:
    """Move or rename a file or directory within the workspace.

    Args:
        source: What to move, relative to the workspace.
        destination: Its new path; missing folders are created.
        overwrite: Replace a file that is there; otherwise the move is refused.
    """
    await work.hold()
    await work.in_thread(
        move, work.root, source, destination, overwrite=overwrite, repeated=work.attempt > 1
    )
    facts = await work.in_thread(facts_of, work.root, destination, work.checkpoint)
    if facts.entry is None:
        raise NoSuchFile(destination)
    if facts.sha256:
        work.artifacts.append(Artifact(normal(destination), facts.sha256, facts.entry.size_bytes))
    return Moved(
        source=normal(source),
        destination=normal(destination),
        kind=facts.entry.kind,
        sha256=facts.sha256,
        size_bytes=facts.entry.size_bytes,
    )


@tool(permission=Permission.DELETE, effect=EffectClass.CONVERGENT, writes=["path"])
async def fs_delete(work: Workspace, path: Path, recursive: bool = False) -> Deleted:
    """Delete a file, a link or a directory. What is gone already is fine.

    Args:
        path: What to delete, relative to the workspace.
        recursive: Delete a directory with all that it holds; otherwise it must be empty.
    """
    await work.hold()
    try:
        count = await work.in_thread(delete, work.root, path, recursive=recursive)
    except NoSuchFile:  # not even its folder is there
        count = 0
    return Deleted(path=normal(path), deleted=count > 0, removed_count=count)


SKILL = Skill(
    "filesystem",
    "Files and folders of the workspace: read, list, write, move and delete them.",
    (fs_read, fs_list, fs_tree, fs_info, fs_write, fs_mkdir, fs_move, fs_delete),
)
