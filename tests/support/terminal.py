"""A program in a terminal of its own: what it shows is read, and what a person types is sent."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
_SECONDS = 90.0
_ROWS, _COLUMNS = 40, 120
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """The other side of a program's terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self._process = process
        self._descriptor = descriptor
        self.raw = b""
        self._seen = 0

    @property
    def text(self) -> str:
        """Return all that was shown, without what moves the cursor and colours."""
        return _CODES.sub("", self.raw.decode(errors="replace"))

    def send(self, text: str) -> None:
        """Type something."""
        os.write(self._descriptor, text.encode())

    def enter(self, line: str) -> None:
        """Type a line."""
        self.send(f"{line}\n")

    def until(self, wanted: str, seconds: float = _SECONDS) -> str:
        """Read until a text is shown, behind all that was waited for before; return what came."""
        end = time.monotonic() + seconds
        while (place := self.text.find(wanted, self._seen)) < 0:
            left = end - time.monotonic()
            assert left > 0, f"no {wanted!r} in:\n{self.text[self._seen :]}"
            assert self._read(left), f"ended without {wanted!r}:\n{self.text[self._seen :]}"
        came = self.text[self._seen : place + len(wanted)]
        self._seen = place + len(wanted)
        return came

    def ended(self, seconds: float = _SECONDS) -> int:
        """Read to the end and return the exit status."""
        end = time.monotonic() + seconds
        while self._read(max(0.0, end - time.monotonic())):
            assert time.monotonic() < end, f"does not end:\n{self.text[self._seen :]}"
        return self._process.wait(max(1.0, end - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        """Read what there is, waiting for it; False at the end."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return True
        try:
            piece = os.read(self._descriptor, 65536)
        except OSError:  # what Linux says when the other side is closed
            piece = b""
        self.raw += piece
        return bool(piece)


@contextmanager
def running(command: Sequence[str | Path], environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program in a terminal; it is killed at the end of the block if it lives."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
