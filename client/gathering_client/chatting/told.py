"""What tools tell as they run: the last lines of it."""

from collections import deque
from dataclasses import dataclass

from gathering.agent.v1.turn_pb2 import ToolOutput
from gathering_client.output import visible

_LONGEST = 500  # characters of a line that are kept


@dataclass
class _Call:
    """How much was taken of a call's output, in bytes, and its last line as far as it came."""

    attempt: int
    end: int
    line: str = ""


class Told:
    """Gathers the output of a step's calls, the last lines of all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: deque[str] = deque(maxlen=most)
        self._calls: dict[str, _Call] = {}

    def add(self, output: ToolOutput) -> None:
        """Take a piece; what a stream that was cut told before is not taken twice."""
        call = self._calls.get(output.call_id)
        if call is None or (call.attempt, call.end) < (output.attempt, output.offset_bytes):
            call = self._calls[output.call_id] = _Call(output.attempt, output.offset_bytes)
        if call.attempt > output.attempt:
            return
        content = output.text.encode()[call.end - output.offset_bytes :]
        call.end += len(content)
        *lines, rest = (call.line + content.decode(errors="replace")).split("\n")
        self._lines.extend(visible(line[:_LONGEST]) for line in lines if line.strip())
        call.line = rest[:_LONGEST]

    def lines(self) -> list[str]:
        """Return the last lines, also those that are not complete."""
        unfinished = [visible(call.line) for call in self._calls.values() if call.line.strip()]
        return [*self._lines, *unfinished][-self._most :]

    def clear(self) -> None:
        """Forget all."""
        self._lines.clear()
        self._calls.clear()
