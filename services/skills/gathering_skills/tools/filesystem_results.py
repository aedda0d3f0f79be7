"""What the tools of the skill `filesystem` give."""

from __future__ import annotations

from pydantic import Field

from gathering_skills.tooling.tool import Result
from gathering_skills.tools.listing import EntryInfo


class FileContent(Result):
    """A part of a text file."""

    path: str
    content: str = Field(description="The lines, with their ends.")
    start_line: int
    end_line: int = Field(description="The last line in `content`; 0: none.")
    line_count: int = Field(description="Of the whole file.")
    size_bytes: int = Field(description="Of the whole file.")
    sha256: str = Field(description="Of the whole file; for `expected_sha256` of fs_write.")
    next_line: int = Field(description="`start_line` for the rest; 0: all was read.")
    next_column: int = Field(description="`start_column` for the rest; 0: all was read.")
    message: str


class FolderContent(Result):
    """A part of what a directory holds."""

    path: str
    entries: list[EntryInfo]
    entry_count: int = Field(description="Of the whole directory.")
    next_offset: int = Field(description="`offset` for the rest; 0: that was all.")
    message: str


class Tree(Result):
    """What lies in a directory and below."""

    path: str
    tree: str = Field(description="One line for each entry, indented; directories end in `/`.")
    file_count: int = Field(description="Within the depth.")
    directory_count: int = Field(description="Within the depth.")
    message: str


class PathInfo(Result):
    """What stands at a path."""

    path: str
    exists: bool
    kind: str = Field(description="file, directory, link or other; empty: nothing is there.")
    size_bytes: int
    modified: str = Field(description="RFC 3339, UTC; empty: nothing is there.")
    line_count: int = Field(description="Of a text file; 0 for anything else.")
    sha256: str = Field(description="Of a file up to 64 MiB; empty for anything else.")


class Written(Result):
    """A file that was written."""

    path: str
    sha256: str
    size_bytes: int
    line_count: int


class Made(Result):
    """A directory that is there now."""

    path: str
    created: bool = Field(description="Whether it was missing.")


class Moved(Result):
    """A file or directory that has another path now."""

    source: str
    destination: str
    kind: str
    sha256: str = Field(description="Of a file up to 64 MiB; empty for anything else.")
    size_bytes: int


class Deleted(Result):
    """What is gone."""

    path: str
    deleted: bool = Field(description="Whether something was there.")
    removed_count: int = Field(description="Files and directories.")
