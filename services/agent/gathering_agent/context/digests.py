"""Older history in a few words: who asked what, what was answered and settled, which tools ran.

By rules alone, so that the same messages give the same digest, and a digest is extended by the
messages behind it without reading those before again. What tools answered is not in it: that is
data, and whatever of it mattered stands in the answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from gathering_agent.context.models import (
    FILE_ARGUMENTS,
    LONGEST_PATH,
    READ_CHARACTERS,
    Brief,
    Digest,
    Entry,
    Statement,
    ToolCount,
)
from gathering_agent.models import JsonObject, Message, Role
from gathering_agent.turns.own_tools import SUBMIT

_ASKED, _ANSWERED, _STATED = 240, 320, 200  # characters that stay
_FIRST, _LATEST = 2, 38  # turns that have an entry
_STATEMENTS, _TOOLS, _FILES = 16, 40, 24
_SETTLES = {
    Role.USER: re.compile(
        r"\b(from now on|always|never|remember|prefer|must|do not|don't|my name|call me|decided?"
        r"|we (will|use)|let's)\b",
        re.IGNORECASE,
    ),
    Role.ASSISTANT: re.compile(
        r"\b(decided?|decision|agreed?|we (will|use)|I (chose|will use))\b", re.IGNORECASE
    ),
}
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]?")


def brief(message: Message) -> Brief:
    """Return what a digest needs of a message."""
    calls = message.tool_calls
    return Brief(
        message.sequence,
        message.role.value,
        message.text[:READ_CHARACTERS],
        tuple(call.tool for call in calls),
        tuple(path for call in calls for path in paths(call.arguments)),
        tuple(result.tool for result in message.tool_results if result.failed),
        message.create_time,
    )


def paths(arguments: JsonObject) -> Iterator[str]:
    """Yield the files that a tool call names."""
    for name in FILE_ARGUMENTS:
        value = arguments.get(name)
        if isinstance(value, str) and value:
            yield value[:LONGEST_PATH]


def extended(digest: Digest, messages: Sequence[Brief]) -> Digest:
    """Return a digest of these messages as well, which are the next of the session."""
    if not messages:
        return digest
    entries, turns = list(digest.entries), digest.turns
    for group in _turns(messages):
        turns += 1
        if group[0].role != Role.USER and entries:  # what is left of a turn that is there already
            turns -= 1
            entries[-1] = _joined(entries[-1], _entry(group))
        else:
            entries.append(_entry(group))
    times = [message.time for message in messages if message.time is not None]
    return replace(
        digest,
        upto=messages[-1].sequence,
        messages=digest.messages + len(messages),
        turns=turns,
        since=digest.since or (f"{times[0]:%Y-%m-%d %H:%M}" if times else ""),
        until=f"{times[-1]:%Y-%m-%d %H:%M}" if times else digest.until,
        entries=_ends(entries),
        statements=(*digest.statements, *_statements(messages))[-_STATEMENTS:],
        tools=_counted(digest.tools, messages),
        files=_latest((*digest.files, *(path for one in messages for path in one.files))),
    )


def _turns(messages: Sequence[Brief]) -> Iterator[list[Brief]]:
    group: list[Brief] = []
    for message in messages:
        if message.role == Role.USER and group:
            yield group
            group = []
        group.append(message)
    yield group


def _entry(group: Sequence[Brief]) -> Entry:
    last = group[-1]
    done = last.role == Role.ASSISTANT and not last.tools
    handed_in = (
        last.role == Role.TOOL
        and len(group) > 1
        and group[-2].tools.count(SUBMIT) > last.failed.count(SUBMIT)
    )
    asked = group[0].text if group[0].role == Role.USER else ""
    time = group[0].time
    return Entry(
        group[0].sequence,
        last.sequence,
        f"{time:%Y-%m-%d %H:%M}" if time else "",
        _line(asked, _ASKED),
        _line(last.text, _ANSWERED) if done else "handed in its result" if handed_in else "",
        tuple(dict.fromkeys(tool for one in group for tool in one.tools))[:_TOOLS],
    )


def _joined(entry: Entry, rest: Entry) -> Entry:
    used = tuple(dict.fromkeys((*entry.tools, *rest.tools)))[:_TOOLS]
    return replace(entry, last=rest.last, answered=rest.answered or entry.answered, tools=used)


def _ends(entries: list[Entry]) -> tuple[Entry, ...]:
    """Return the first and the latest entries; the rest is counted by the digest's turns."""
    if len(entries) <= _FIRST + _LATEST:
        return tuple(entries)
    return (*entries[:_FIRST], *entries[-_LATEST:])


def _statements(messages: Iterable[Brief]) -> Iterator[Statement]:
    for message in messages:
        pattern = _SETTLES.get(Role(message.role))
        if pattern is None:
            continue
        found = (one for one in _SENTENCE.findall(message.text) if pattern.search(one))
        sentence = next(found, "").strip()
        if sentence:
            yield Statement(message.sequence, message.role, _line(sentence, _STATED))


def _counted(before: Sequence[ToolCount], messages: Iterable[Brief]) -> tuple[ToolCount, ...]:
    counts = {one.tool: [one.calls, one.failed] for one in before}
    for message in messages:
        for tool in message.tools:
            counts.setdefault(tool, [0, 0])[0] += 1
        for tool in message.failed:
            counts.setdefault(tool, [0, 0])[1] += 1
    ordered = sorted(counts.items(), key=lambda one: (-one[1][0], one[0]))[:_TOOLS]
    return tuple(ToolCount(tool, calls, failed) for tool, (calls, failed) in ordered)


def _latest(files: Sequence[str]) -> tuple[str, ...]:
    """Return each file once, at its last place."""
    return tuple(reversed(list(dict.fromkeys(reversed(files)))[:_FILES]))


def _line(text: str, longest: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= longest else f"{words[:longest]}..."
