"""What a person types: lines, several at once, with a history where there is a terminal."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_BLOCK = '"""'
_KEPT = 1000  # lines of history
_READ = 64 * 1024


def is_terminal() -> bool:
    """Tell whether somebody sits in front of this, who can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Typist:
    """Reads messages: lines, which go on after a backslash, and blocks in three quotes."""

    def __init__(self) -> None:
        self._person = is_terminal()

    def read(self) -> str | None:
        """Return the next message, which may be empty; None at the end. Ctrl-C is raised."""
        try:
            line = self._line("you> ")
            if line.lstrip().startswith(_BLOCK):
                return "\n".join(self._block(line.lstrip().removeprefix(_BLOCK)))
            return "\n".join(self._continued(line)).strip()
        except EOFError:
            return None

    def _line(self, prompt: str) -> str:
        if self._person:
            return input(prompt)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _continued(self, line: str) -> Iterator[str]:
        while line.endswith("\\"):
            yield line.removesuffix("\\")
            line = self._line("...> ")
        yield line

    def _block(self, first: str) -> Iterator[str]:
        line = first
        while not line.rstrip().endswith(_BLOCK):
            if line or line is not first:
                yield line
            line = self._line("...> ")
        last = line.rstrip().removesuffix(_BLOCK)
        if last:
            yield last

    @contextlib.contextmanager
    def history(self) -> Iterator[None]:
        """Keep what is typed for the next time, in a file that only this user may read."""
        if not self._person:
            yield
            return
        import readline  # changes what `input` does, so not where nobody types

        file = _history_file()
        with contextlib.suppress(OSError):
            readline.read_history_file(file)
        readline.set_history_length(_KEPT)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
                readline.write_history_file(file)


def _history_file() -> Path:
    folder = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(folder) / "gathering" / "chat_history"


async def typed_line() -> str | None:
    """Return the next line of the terminal while other work goes on; None at the end of input."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    given: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        if not given.done():
            given.set_result(os.read(descriptor, _READ))

    loop.add_reader(descriptor, readable)
    try:
        line = await given
    finally:
        loop.remove_reader(descriptor)
    return line.decode(errors="replace").strip() if line else None
