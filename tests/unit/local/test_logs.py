"""Logs as people see them: a line each, in short where a mesh does not start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gathering_local.logs import last_words, show_logs

ENTRY = {"timestamp": "T", "level": "info", "event": "call", "service": "agent", "ms": 3}
BROKEN = {
    **ENTRY,
    "level": "critical",
    "event": "ended",
    "exception": "Traceback\n  x\nKeyError: 'a'",
}


def written(folder: Path, name: str, *lines: object) -> Path:
    """Write a log of JSON entries and other lines."""
    path = folder / f"{name}.log"
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return path


def test_entries_are_shown_in_words_and_other_lines_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "agent", ENTRY, "plain words", [1], 5)
    show_logs(tmp_path, "agent", 10, follow=False, raw=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "T agent        info    call ms=3"
    assert shown[1] == "agent        plain words"
    assert len(shown) == 4


def test_last_lines_of_each_part_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, "agent", "a1", "a2", "a3")
    written(tmp_path, "memory", "m1")
    show_logs(tmp_path, "", 2, follow=False, raw=True)
    assert capsys.readouterr().out == "a2\na3\nm1\n"
    show_logs(tmp_path, "", 0, follow=False, raw=True)
    assert capsys.readouterr().out == ""


def test_part_without_a_log_is_told_with_those_that_have_one(tmp_path: Path) -> None:
    written(tmp_path, "agent", "a1")
    with pytest.raises(FileNotFoundError, match="no log of nothing; there is: agent"):
        show_logs(tmp_path, "nothing", 2, follow=False, raw=True)


def test_last_words_are_short(tmp_path: Path) -> None:
    path = written(tmp_path, "agent", "old", BROKEN, "x" * 5000, [1])
    assert last_words(path, 3) == ["T critical ended KeyError: 'a'", "x" * 400, "[1]"]
