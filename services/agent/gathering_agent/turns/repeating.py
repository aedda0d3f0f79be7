"""The loop guard: what a turn does when its model asks for the same again and again.

A call that gave the same result so many times, with nothing new in between, is not run again: the
model is told so. So are, after so many rounds in a row that brought nothing new, all calls that
were made before. A model that goes on all the same is asked to answer without tools. A result that
changed is progress, whatever the call. It follows from what is stored alone, so a takeover decides
the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gathering_agent.models import Message, Role, ToolCall, ToolResult

IN_VAIN = (
    "Not run: you made this call before in this turn, and its result did not change. Do something "
    "else, or answer with what you have; if you ask for the same once more, this turn ends."
)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How often a call may give the same, and how many rounds in a row nothing new; 0: any."""

    calls: int = 4
    rounds: int = 4


class Repeating:
    """What a turn has asked for, and whether it goes in circles: `over` says that it was told."""

    def __init__(self, tolerance: Tolerance, messages: Iterable[Message] = ()) -> None:
        self._tolerance = tolerance
        self._results: dict[
            str, tuple[int, int]
        ] = {}  # of a call: the last one, how often in a row
        self._idle = 0
        self._told = False
        self.over = False
        asking: tuple[ToolCall, ...] = ()
        for message in messages:
            if message.role is Role.TOOL:
                self.take(asking, message.tool_results)
            asking = message.tool_calls

    def in_vain(self, calls: Sequence[ToolCall]) -> frozenset[str]:
        """Return the ids of those calls of a round that are not worth making."""
        most, idle = self._tolerance.calls, self._tolerance.rounds
        found = set()
        asked: dict[str, int] = {}
        for call in calls:
            key = _key(call)
            _, times = self._results.get(key, (0, 0))
            again = times + asked.get(key, 0)
            asked[key] = asked.get(key, 0) + 1
            if (most and again >= most) or (idle and times and self._idle >= idle):
                found.add(call.call_id)
        return frozenset(found)

    def take(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Take in what came of a round."""
        vain = self.in_vain(calls)
        news = False
        for call, result in zip(calls, results, strict=False):
            if call.call_id not in vain:
                news = self._took(_key(call), hash((result.text, result.failed))) or news
        if news:
            self._idle, self._told = 0, bool(vain)
            self._results = {key: (last, 1) for key, (last, _) in self._results.items()}
            return
        self._idle += 1
        self.over = self.over or (self._told and bool(vain))
        self._told = self._told or bool(vain)

    def _took(self, key: str, result: int) -> bool:
        """Note a result; tell whether it is news."""
        last, times = self._results.get(key, (0, 0))
        same = bool(times) and last == result
        self._results[key] = (result, times + 1 if same else 1)
        return not same


def _key(call: ToolCall) -> str:
    return json.dumps([call.tool, call.arguments, call.problem], sort_keys=True)
