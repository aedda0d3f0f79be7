"""Run ruff on a copy of the Python files of a workspace.

Ruff follows links out of the directory that it is given, and finds configuration that others wrote.
So it gets a copy, made without following any link, and no configuration. Its findings are those of
`command` run by hand in the workspace, but for what it would find through links.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gathering_skills.confined.ignored import BESIDE_RUFFS
from gathering_skills.confined.paths import normal, shown
from gathering_skills.errors import ToolError
from gathering_skills.inspector.task import Task, Tour

SUFFIXES = (".py", ".pyi", ".ipynb")
_ALSO = "pyproject.toml"  # ruff checks its own form (RUF200)
_ARGUMENTS = ("check", "--isolated", "--output-format", "json", "--no-cache", "--exit-zero")
_FOUND = 0
_ABORTED = 134  # Ruff overflows its stack on deeply nested code, and ends with all that it found.
_MOST_NAMES = 500  # of files, on one command line
_DIE_WITH_PARENT = 1

Finding = dict[str, Any]


class Ruff:
    """Ruff on what lies below a path."""

    def __init__(self, task: Task, options: Sequence[str]) -> None:
        self._task = task
        self._options = options
        self.tour = Tour(task, task.arguments["path"])
        self.python_file_count = 0
        self._paths: list[str] = []

    @property
    def command(self) -> str:
        """Return the command that finds the same by hand, in the workspace."""
        told = [part for part in _ARGUMENTS if part not in {"--no-cache", "--exit-zero"}]
        left_out = ["--extend-exclude", ",".join(BESIDE_RUFFS)]
        path = normal(self._task.arguments["path"])
        return shlex.join(["ruff", *told, *left_out, *self._options, path])

    def findings(self) -> list[Finding]:
        """Return what ruff finds, with file names relative to the workspace."""
        folder = os.path.realpath(self._task.scratch)
        for path, content in self.tour.sources((*SUFFIXES, _ALSO)):
            if self._stored(folder, path, content):
                self.python_file_count += path.endswith(SUFFIXES)
                self._paths.append(f"./{shown(path)}")
        if not self.python_file_count:
            return []
        out = self._checked(folder, ["."])
        if out is None:
            self._leave_out(folder)
            out = self._checked(folder, ["."])
        if out is None:
            raise ToolError("ruff ends by overflowing its stack; name a smaller part")
        return [_placed(finding, folder) for finding in _read(out)]

    def _checked(self, folder: str, paths: Sequence[str]) -> bytes | None:
        """Return what ruff says of these paths; None if it broke down over one of them."""
        done = self._end([*_ARGUMENTS, *self._options, *paths], folder)
        if done.returncode in (-signal.SIGABRT, -signal.SIGSEGV, _ABORTED):
            return None
        return _output(done)

    def _leave_out(self, folder: str) -> None:
        """Remove from the copy the files over which ruff breaks down, found by halving."""
        starts = range(0, len(self._paths), _MOST_NAMES)
        doubtful = [self._paths[start : start + _MOST_NAMES] for start in starts]
        while doubtful:
            paths = doubtful.pop()
            if self._checked(folder, paths) is not None:
                continue
            if len(paths) == 1:
                Path(folder, paths[0]).unlink()
                self.tour.leave_out(paths[0].removeprefix("./"), "too deeply nested")
                self.python_file_count -= 1
            else:
                middle = len(paths) // 2
                doubtful += [paths[:middle], paths[middle:]]

    def _stored(self, folder: str, path: str, content: bytes) -> bool:
        """Write a copy under the name that is told; False if that is too long a name."""
        target = Path(folder, shown(path))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise ToolError(f"the copy for ruff cannot be written: {error.strerror}") from error
            self.tour.skipped_count += 1
            return False
        return True

    def version(self) -> str:
        """Return ruff's version."""
        return self._run(["--version"], "/").decode().strip().removeprefix("ruff ")

    def rules(self) -> dict[str, Finding]:
        """Return what ruff says of each of its rules, by code."""
        told = _read(self._run(["rule", "--all", "--output-format", "json"], "/"))
        return {rule["code"]: rule for rule in told}

    def _run(self, arguments: Sequence[str], folder: str) -> bytes:
        return _output(self._end(arguments, folder))

    def _end(self, arguments: Sequence[str], folder: str) -> subprocess.CompletedProcess[bytes]:
        left = max(0.1, self._task.until - time.monotonic())
        try:
            return subprocess.run(  # noqa: S603 - our ruff, arguments checked by the tool's schema
                [self._task.ruff, *arguments],
                cwd=folder,
                env={"PATH": os.defpath, "HOME": folder},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=left,
                check=False,
                preexec_fn=_die_with_parent,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolError("ruff ran out of time; name a smaller part", "TOOL_TIMEOUT") from error
        except OSError as error:
            raise ToolError(f"ruff cannot be started: {error.strerror}") from error


def _output(done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode != _FOUND:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[:5]
        raise ToolError(f"ruff refused: {' '.join(said)}"[:500])
    return done.stdout


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _read(out: bytes) -> list[Finding]:
    found: list[Finding] = json.loads(out)
    return found


def _placed(finding: Finding, folder: str) -> Finding:
    inside = os.path.relpath(finding["filename"], folder)
    return {**finding, "filename": inside}
