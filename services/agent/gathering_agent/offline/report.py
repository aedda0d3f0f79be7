"""The report: written from what was found, and read again by its reviewer and its next round.

A section per topic; its entries are rows of a table: where (`path:line`), rule, what, why. Readers
also take entries from reports of other authors, wherever a line names `path:line`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gathering_agent.offline.evidence import Entry, Found, called
from gathering_agent.offline.story import Done
from gathering_agent.offline.topics import Topic

NOTICE = (
    "Written by the offline model: a rule-based program, not a language model. "
    "Every entry is taken from the result of a tool."
)
RUN_TITLE = "What was run"
GAPS_TITLE = "Not covered"
_HEAD = "| Where | Rule | What | Why |\n|---|---|---|---|"
_ROW = re.compile(r"^\|(.+)\|\s*$")
_RULER = re.compile(r"^[|\s:-]+$")
_HEADING = re.compile(r"^#{1,4}\s+(.*?)\s*#*\s*$")
_PLACE = re.compile(r"`?((?:[\w.@+-]+/)*[\w.@+-]*[\w@+-]\.[A-Za-z]\w{0,9}):(\d+)`?")
_RULE = re.compile(r"\b([A-Z]{1,5}\d{3,4})\b")
_LEAST_CELLS = 4
_LONGEST_CELL = 600
_LONGEST_LINE = 3_000  # that is read
_LONGEST_BLOCK = 12_000


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report with its heading and text; `rows` are the entries in it."""

    title: str
    text: str
    rows: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """What a report is written from. `kept` are sections of an earlier version."""

    title: str
    found: Sequence[Found]
    kept: Sequence[Section]
    runs: Sequence[Done]
    earlier_runs: Sequence[str]  # rows of the earlier version, for what is kept of it
    gaps: Sequence[str]
    known: Sequence[str]
    answered: Sequence[tuple[str, str]]  # a criterion, and where it is answered


def write(draft: Draft) -> str:
    """Return the report as Markdown."""
    parts = [f"# {draft.title}", f"_{NOTICE}_", _summary(draft), _runs(draft)]
    parts += [_section(one) for one in draft.found]
    parts += [f"## {one.title}\n\n{one.text}" for one in draft.kept]
    if draft.answered:
        rows = [f"| {_cell(criterion)} | {_cell(where)} |" for criterion, where in draft.answered]
        parts.append("\n".join(["## Criteria\n", "| Criterion | Answered |", "|---|---|", *rows]))
    if draft.known:
        lines = [f"- {_cell(memory)}" for memory in draft.known]
        parts.append("\n".join(["## Known before\n", *lines]))
    gaps = [f"- {gap}" for gap in draft.gaps] or ["Nothing that was asked for was left out."]
    parts.append("\n".join([f"## {GAPS_TITLE}\n", *gaps]))
    return "\n\n".join(parts) + "\n"


def _summary(draft: Draft) -> str:
    lines = [f"- {one.topic.title}: {one.headline}" for one in draft.found]
    lines += [f"- {one.title}: as in the earlier version of this report." for one in draft.kept]
    told = tuple(f"{one.topic.title}:" for one in draft.found)
    lines += [f"- Not covered: {gap}" for gap in draft.gaps if not gap.startswith(told)]
    return "\n".join(["## Summary\n", *(lines or ["- Nothing was found out."])])


def _runs(draft: Draft) -> str:
    rows = [f"| {_cell(called(done))} | {_cell(_outcome(done))} |" for done in draft.runs]
    rows += draft.earlier_runs
    head = ["| Tool | Result |", "|---|---|"]
    return "\n".join([f"## {RUN_TITLE}\n", *(head + rows if rows else ["No tool was run."])])


def _outcome(done: Done) -> str:
    if not done.ok:
        return f"failed: {done.text}"
    message = done.data.get("message")
    command = done.data.get("command")
    said = message if isinstance(message, str) and message else "done"
    return f"{said} Command: `{command}`" if isinstance(command, str) and command else said


def _section(found: Found) -> str:
    lines = [f"## {found.topic.title}\n", found.headline, *found.notes]
    if found.entries:
        lines += ["", _HEAD, *map(_row, found.entries)]
        if found.total > len(found.entries):
            lines.append(f"\nThese are {len(found.entries)} of {found.total}.")
    if found.block:
        fence = "```"
        lines += ["", fence, found.block[:_LONGEST_BLOCK].replace(fence, "'''"), fence]
    return "\n".join(lines)


def _row(entry: Entry) -> str:
    cells = (f"`{entry.where}`", entry.rule, entry.what, entry.why)
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= _LONGEST_CELL else f"{flat[:_LONGEST_CELL]}..."


# --- Reading ------------------------------------------------------------------------------------


def read(report: str) -> list[Section]:
    """Return the sections of a report, whoever wrote it."""
    sections: list[Section] = []
    title, lines = "", list[str]()
    fenced = False
    for whole in report.splitlines():
        line = whole[:_LONGEST_LINE]
        fenced ^= line.lstrip().startswith("```")
        heading = None if fenced else _HEADING.match(line)
        if heading:
            sections.append(_read(title, lines))
            title, lines = heading[1], []
        else:
            lines.append(line)
    return [one for one in (*sections, _read(title, lines)) if one.title or one.text]


def _read(title: str, lines: Sequence[str]) -> Section:
    return Section(title, "\n".join(lines).strip(), tuple(_entries(lines)))


def _entries(lines: Iterable[str]) -> Iterator[Entry]:
    for line in lines:
        row = _ROW.match(line)
        if row and not _RULER.match(line):
            yield from _entry_of_row([cell.strip() for cell in re.split(r"(?<!\\)\|", row[1])])
        else:
            yield from _entries_of_prose(line)


def _entry_of_row(cells: Sequence[str]) -> Iterator[Entry]:
    place = _PLACE.search(cells[0])
    plain = cells[0].strip("` ")
    if len(cells) < _LEAST_CELLS:
        yield from _entries_of_prose(" | ".join(cells))
    elif place:
        yield Entry(place[1], int(place[2]), cells[1], cells[2], cells[3])
    elif cells[0].startswith("`") and plain:
        yield Entry(plain, 0, cells[1], cells[2], cells[3])
    else:
        yield from _entries_of_prose(" | ".join(cells))


def _entries_of_prose(line: str) -> Iterator[Entry]:
    """Take `path:line` from running text, with the rule that stands beside it."""
    rules = _RULE.findall(line)
    for path, number in _PLACE.findall(line):
        rest = _PLACE.sub("", line).strip(" -*|:`")
        yield Entry(path, int(number), rules[0] if rules else "", rest, rest)


def runs_of(sections: Sequence[Section], tools: Iterable[str]) -> list[str]:
    """Return the rows of a report that tell of runs of these tools."""
    wanted = tuple(f"| {tool}(" for tool in tools)
    lines = (line for one in sections if one.title == RUN_TITLE for line in one.text.splitlines())
    return [line for line in lines if line.startswith(wanted)]


def sections_on(topic: Topic, sections: Sequence[Section]) -> list[Section]:
    """Return the sections that are about a topic: by heading, else by what stands in them."""
    named = [one for one in sections if one.title == topic.title or topic.asked.search(one.title)]
    if named:
        return named
    headed = [one for one in sections if one.title]
    if len(headed) > 1:
        return []
    return [one for one in sections if topic.asked.search(one.text)]  # one text without headings
