"""The latest messages of sessions that go on here, so that their next turn reads the new ones only.

A message that has its sequence never changes, and what comes later has a higher one. That holds in
one history of the database: the last message that is kept is read again with the new ones, and
where it is another, as after a restore, or is gone, nothing that was kept counts. Only what is
committed is kept, so messages are read before a transaction adds some.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gathering_agent.models import Message, as_text

# Reads the last messages between two sequences (after, before, limit), oldest first.
Fetch = Callable[[int, int, int], Awaitable[list[Message]]]
_MESSAGES = 400  # of a session
_CHARACTERS = 32_000_000  # of all
_SHARE = 8  # of these, the most that one session may have
_OBJECT = 500  # what a message takes besides
_SECONDS = 600.0  # since its last turn


@dataclass(frozen=True, slots=True)
class _Run:
    """Messages of a session that follow one another up to the last that is known."""

    messages: list[Message]
    sizes: dict[str, int]  # by id
    characters: int
    used: float  # time.monotonic()


class Recent:
    """Messages by tenant and session."""

    def __init__(self, characters: int = _CHARACTERS) -> None:
        self._most = characters
        self._runs: OrderedDict[tuple[str, str], _Run] = OrderedDict()
        self.characters = 0

    async def latest(
        self, of: tuple[str, str], fetch: Fetch, *, after: int, before: int, limit: int
    ) -> list[Message]:
        """Return the last messages of a session between two sequences, as `fetch` would.

        Pages go backwards; the first of them, which has the end of the session, is the one that
        tells whether what is kept counts.
        """
        run = self._runs.get(of)
        held, new = run.messages if run else [], list[Message]()
        end = held[-1].sequence if held else 0
        if end < before:
            new = await fetch(max(after, end - 1), before, limit + 1)
            same = held and new and new[0] == held[-1]
            new = new[1:] if same else new[-limit:]
            if not same and after < end and len(new) < limit:
                new = await fetch(after, before, limit)
            if not same or len(new) == limit:
                self._keep(of, new)
                return new
        known = [one for one in held if after < one.sequence < before]
        found = [*known, *new][-limit:]
        first = held[0].sequence
        if len(found) < limit and first > after + 1:
            older = await fetch(after, min(before, first), limit - len(found))
            found = [*older, *found]
            held = [*older, *held] if before >= first else held
        self._keep(of, [*held, *new])
        return found

    def forget(self, of: tuple[str, str]) -> None:
        """Forget a session."""
        if run := self._runs.pop(of, None):
            self.characters -= run.characters

    def _keep(self, of: tuple[str, str], messages: list[Message]) -> None:
        """Keep the end of a run, as the one that was used last; forget what is too much or old."""
        now = time.monotonic()
        messages = messages[-_MESSAGES:]
        known = before.sizes if (before := self._runs.get(of)) else {}
        sizes = {one.id: known.get(one.id) or _size(one) for one in messages}
        characters = sum(sizes.values())
        self.forget(of)
        if messages and characters <= self._most // _SHARE:
            self._runs[of] = _Run(messages, sizes, characters, now)
            self.characters += characters
        while self._runs:
            oldest = next(iter(self._runs.values()))
            if self.characters <= self._most and oldest.used > now - _SECONDS:
                return
            self._runs.popitem(last=False)
            self.characters -= oldest.characters


def _size(message: Message) -> int:
    told = sum(len(result.text) for result in message.tool_results)
    told += len(as_text(message.tool_calls)) if message.tool_calls else 0
    told += len(as_text(message.native)) if message.native else 0
    return _OBJECT + len(message.text) + told
