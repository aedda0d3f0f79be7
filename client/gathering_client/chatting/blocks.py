"""Markdown that comes in pieces, cut into blocks that nothing later changes."""

from dataclasses import dataclass, field

_FENCES = ("```", "~~~")


@dataclass
class Blocks:
    """Gathers text; blocks end at empty lines outside of code."""

    _lines: list[str] = field(default_factory=list)
    _open: str = ""  # the last line, as far as it came
    _fence: str = ""
    given: bool = False  # whether a block has been handed out

    def add(self, text: str) -> list[str]:
        """Take a piece; return the blocks that are complete with it."""
        *lines, self._open = (self._open + text).split("\n")
        return [block for line in lines if (block := self._line(line))]

    @property
    def rest(self) -> str:
        """Return what is not complete yet."""
        return "\n".join([*self._lines, self._open]).strip("\n")

    def tail(self, most: int) -> str:
        """Return the last lines of the rest; code stays code."""
        lines = self.rest.split("\n")
        if len(lines) <= most:
            return self.rest
        head = [self._fence] if self._fence else []
        return "\n".join([*head, *lines[-most:]])

    def clear(self) -> None:
        """Forget what is not handed out."""
        self._lines, self._open, self._fence, self.given = [], "", "", False

    def _line(self, line: str) -> str:
        """Take a line; return the block that it ends, if it ends one."""
        mark = line.strip()[:3]
        if self._fence:
            self._fence = "" if mark == self._fence else self._fence
        elif mark in _FENCES:
            self._fence = mark
        elif not line.strip():
            block = "\n".join(self._lines).strip("\n")
            self._lines = []
            self.given = self.given or bool(block)
            return block
        self._lines.append(line)
        return ""
