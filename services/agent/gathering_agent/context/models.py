"""What a model is told in a step, by named sections, and what is condensed of a session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

# What a digest looks at in a message: so many characters, and the arguments that name files.
READ_CHARACTERS = 2000
LONGEST_PATH = 200
FILE_ARGUMENTS = ("path", "source", "destination", "file", "file_path")


class Strategy(StrEnum):
    """How much of what was said before a turn its model is shown."""

    AUTO = "auto"
    FULL = "full"
    SUMMARY = "summary"
    TASK_FOCUSED = "task_focused"
    MINIMAL = "minimal"


class SectionState(StrEnum):
    """What became of a section."""

    INCLUDED = "included"
    CUT = "cut"
    CONDENSED = "condensed"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True)
class Project:
    """What the workspace of a session is the home of, as the skills service derived it."""

    name: str = ""
    description: str = ""
    python_version: str = ""
    venv_path: str = ""
    tools: tuple[str, ...] = ()
    conventions: tuple[str, ...] = ()
    key_files: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    notes: str = ""
    git_branch: str = ""
    git_remote: str = ""
    tree: str = ""


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A memory that was recalled for a turn, and whether the model was shown it."""

    memory_id: str
    score: float
    included: bool


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a prompt. `first` and `last`: sequences of the messages that it comes from."""

    name: str
    state: SectionState
    tokens: int
    reason: str = ""
    first: int = 0
    last: int = 0
    memories: tuple[MemorySource, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What went into the prompt of a step; tokens are our estimate."""

    model: str
    window_tokens: int
    output_tokens: int
    strategy: Strategy
    strategy_reason: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class TurnContext:
    """The report of a step, and what the provider counted of its prompt, if it told."""

    turn_id: str
    step: int
    report: Report
    counted_tokens: int | None


@dataclass(frozen=True, slots=True)
class ToolCount:
    """How often a tool was called, and how often that failed."""

    tool: str
    calls: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn in a few words; `answered` is empty where it ended before it answered."""

    first: int
    last: int
    time: str
    asked: str
    answered: str
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence that settles something, and who said it."""

    sequence: int
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What was said in a session up to a sequence, condensed.

    `entries` are the first turns and the latest ones; those in between are counted alone. `text` is
    what a model wrote of it, up to `text_upto`, where one was asked.
    """

    upto: int = 0
    messages: int = 0
    turns: int = 0
    since: str = ""
    until: str = ""
    entries: tuple[Entry, ...] = ()
    statements: tuple[Statement, ...] = ()
    tools: tuple[ToolCount, ...] = ()
    files: tuple[str, ...] = ()
    text: str = ""
    text_upto: int = 0


@dataclass(frozen=True, slots=True)
class Brief:
    """A message as far as a digest needs it: its texts cut, its results without text."""

    sequence: int
    role: str
    text: str
    tools: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()  # the tools whose results say that they failed
    time: datetime | None = None
