"""Look for text in files, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gathering_skills.confined.contents import looks_binary
from gathering_skills.confined.globs import Glob, any_matches
from gathering_skills.confined.paths import shown
from gathering_skills.errors import ToolError
from gathering_skills.inspector.pages import clipped, page, rest, whole
from gathering_skills.inspector.task import Answer, Task, Tour, counted, sentence

_MOST_MATCHES = 100_000
_LINE_CHARS = 300
_LARGEST = 16 * 1024 * 1024


def run(task: Task) -> Answer:
    """Return the lines that fit a pattern."""
    wanted = task.arguments
    pattern = _pattern(wanted)
    tour = Tour(task, wanted["path"])
    matches: list[Answer] = []
    matching: set[str] = set()
    searched = skipped = 0
    for path, lines in _texts(tour, _globs(wanted["include"]), _globs(wanted["exclude"])):
        searched += lines is not None
        skipped += lines is None
        for found in _in_lines(pattern, lines or [], wanted["context_lines"]):
            matching.add(path)
            matches.append({"path": shown(path), **found})
            task.tell(_as_grep_writes(matches[-1]))
        if len(matches) >= _MOST_MATCHES:
            tour.cut = True
            break
    chosen, following = page(matches, wanted["offset"], wanted["limit"])
    said = (
        f"{counted(len(matches), 'line')} in {len(matching)} of {counted(searched, 'file')} fit."
        if matches
        else f"No line in {counted(searched, 'file')} fits."
    )
    more = rest(wanted["offset"], len(chosen), len(matches), "lines", following)
    return {
        "matches": chosen,
        "match_count": len(matches),
        "matching_file_count": len(matching),
        "searched_file_count": searched,
        "skipped_file_count": skipped,
        "next_offset": following,
        "message": sentence(said, more, whole(cut=following > 0), *tour.remarks()),
    }


def _pattern(wanted: Any) -> re.Pattern[str]:
    text = re.escape(wanted["pattern"]) if wanted["literal"] else wanted["pattern"]
    try:
        return re.compile(text, re.IGNORECASE if wanted["ignore_case"] else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise ToolError(
            f"the pattern is no regular expression of Python's: {error}; literal=true looks for "
            "the text as it is"
        ) from error


def _globs(patterns: list[str]) -> list[Glob]:
    return [Glob(pattern) for pattern in patterns]


def _texts(
    tour: Tour, include: list[Glob], exclude: list[Glob]
) -> Iterator[tuple[str, list[str] | None]]:
    """Yield the files to be searched and their lines, None for binary and too large ones."""
    for found in tour.files():
        path = found.path
        if (include and not any_matches(include, path)) or any_matches(exclude, path):
            continue
        content = tour.content(found, _LARGEST)
        if content is None or looks_binary(content):
            yield path, None
        else:
            yield path, content.decode("utf-8", "replace").split("\n")


def _in_lines(pattern: re.Pattern[str], lines: list[str], context: int) -> Iterator[Answer]:
    for index, line in enumerate(lines):
        match = pattern.search(line)
        if match is None or (index == len(lines) - 1 and not line):  # behind the last line's end
            continue
        found: Answer = {
            "line": index + 1,
            "column": match.start() + 1,
            "text": _around(line, match.start()),
        }
        if context:
            found["before"] = [_plain(at) for at in lines[max(0, index - context) : index]]
            found["after"] = [_plain(at) for at in lines[index + 1 : index + 1 + context]]
        yield found


def _as_grep_writes(found: Answer) -> str:
    """Return a match as lines: path, line, column and text; what stands around it with dashes."""
    path, line = found["path"], found["line"]
    before, after = found.get("before", []), found.get("after", [])
    lines = [f"{path}-{line - len(before) + n}- {text}" for n, text in enumerate(before)]
    lines.append(f"{path}:{line}:{found['column']}: {found['text']}")
    lines += [f"{path}-{line + 1 + n}- {text}" for n, text in enumerate(after)]
    return "".join(f"{one}\n" for one in lines)


def _around(line: str, start: int) -> str:
    """Return a line, or of a long one what stands around the match."""
    begin = max(0, start - _LINE_CHARS // 3) if len(line) > _LINE_CHARS else 0
    return ("…" if begin else "") + _plain(line[begin:])


def _plain(line: str) -> str:
    return clipped(line.rstrip("\r"), _LINE_CHARS)
