"""Read a job from standard input, do it, write the answer to standard output.

Before it what is found, in lines that each are a text in JSON; the answer is no line.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

from gathering_skills.confined.root import Root
from gathering_skills.errors import ToolError
from gathering_skills.inspector import (
    complexity,
    file_names,
    imports,
    lint,
    project,
    sizes,
    summary,
    text,
    tree,
)
from gathering_skills.inspector.task import Answer, Task

MEMORY_BYTES = 2 * 1024**3
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LONGEST_LINE = 16 * 1024  # characters that are gathered
_GATHER_SECONDS = 0.1
_JOBS: Mapping[str, Callable[[Task], Answer]] = {
    "complexity": complexity.run,
    "file_names": file_names.run,
    "imports": imports.run,
    "lint": lint.run,
    "project": project.run,
    "sizes": sizes.run,
    "summary": summary.run,
    "text": text.run,
    "tree": tree.run,
}


def main() -> None:
    """Do one job; arguments: the descriptor of the workspace, the id of the parent process."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    _bind(parent)
    lines = _Lines()
    answer = _answer(descriptor, json.load(sys.stdin.buffer), lines.tell)
    lines.flush()
    sys.stdout.buffer.write(json.dumps(answer).encode())


class _Lines:
    """Gathers what is told for a moment, and writes it."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._size = 0
        self._written = time.monotonic()

    def tell(self, text: str) -> None:
        """Take a text."""
        self._texts.append(text)
        self._size += len(text)
        if self._size >= _LONGEST_LINE or time.monotonic() - self._written > _GATHER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if self._texts:
            line = json.dumps("".join(self._texts)).encode() + b"\n"
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        self._texts, self._size, self._written = [], 0, time.monotonic()


def _bind(parent: int) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to die with it
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(5000)


def _answer(descriptor: int, request: Mapping[str, Any], tell: Callable[[str], None]) -> Answer:
    task = Task(
        root=Root(descriptor),
        arguments=request["arguments"],
        ruff=request["ruff"],
        scratch=request["scratch"],
        until=time.monotonic() + request["seconds"],
        tell=tell,
    )
    try:
        return {"result": _JOBS[cast("str", request["job"])](task)}
    except ToolError as error:
        return {"error": error.message, "reason": error.reason}
    except MemoryError:
        return {"error": "there is too much to look at; name a smaller part", "reason": ""}


if __name__ == "__main__":
    main()
