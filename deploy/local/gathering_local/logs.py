"""Shows the parts' log files: the services' JSON lines in a form for people."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

_POLL_SECONDS = 0.2
_TAIL_BYTES = 1024 * 1024
_SHORT_CHARS = 400
_SHOWN_APART = ("timestamp", "level", "event", "service")


def show_logs(folder: Path, part: str, lines: int, *, follow: bool, raw: bool) -> None:
    """Print the last lines of one part's log or of all, and go on with `follow`.

    Raises:
        FileNotFoundError: there is no log of this part.

    """
    paths = sorted(folder.glob(f"{part or '*'}.log"))
    if not paths:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        raise FileNotFoundError(f"no log of {part or 'any part'}; there is: {known}")
    files = [(path.stem, path.open(errors="replace")) for path in paths]
    try:
        past = [(name, line) for name, file in files for line in _last(file, lines)]
        for name, line in past:
            sys.stdout.write(_shown(name, line, raw=raw))
        while follow:
            for name, line in _new(files):
                sys.stdout.write(_shown(name, line, raw=raw))
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        for _, file in files:
            file.close()


def last_words(path: Path, count: int = 5) -> list[str]:
    """Return the last lines of a log, each short: of an exception, what it says in the end."""
    with path.open(errors="replace") as file:
        return [_short(line) for line in _last(file, count)]


def _short(line: str) -> str:
    try:
        entry = json.loads(line)
        said = str(entry.get("exception") or entry.get("error") or "").rstrip()
        line = (
            f"{entry['timestamp']} {entry['level']} {entry['event']} {said.rpartition(chr(10))[2]}"
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    return line.rstrip()[:_SHORT_CHARS]


def _last(file: TextIO, count: int) -> list[str]:
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    lines = file.readlines()
    return lines[-count:] if count else []


def _new(files: Sequence[tuple[str, TextIO]]) -> Iterator[tuple[str, str]]:
    for name, file in files:
        while line := file.readline():
            yield name, line


def _shown(name: str, line: str, *, raw: bool) -> str:
    if raw:
        return line
    try:
        entry = json.loads(line)
        rest = " ".join(f"{key}={entry[key]}" for key in entry if key not in _SHOWN_APART)
        head = f"{entry['timestamp']} {name:<12} {entry['level']:<7} {entry['event']}"
    except (ValueError, LookupError, TypeError):
        return f"{name:<12} {line}"
    return f"{head} {rest}\n"
